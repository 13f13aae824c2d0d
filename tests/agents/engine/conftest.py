import os
from collections.abc import Callable, Iterator

import pytest

from agents.engine.process import writer


@pytest.fixture
def started_writer() -> Iterator[None]:
    """The process's own writer thread, as in a process that serves."""
    writer.start()
    yield
    writer.stop()


@pytest.fixture
def effort() -> Callable[[int], int]:
    """Scale how many examples a random test tries: SUTAZAI_TEST_EFFORT=20 for a long night."""
    factor = float(os.environ.get("SUTAZAI_TEST_EFFORT", "1"))
    return lambda count: max(1, int(count * factor))
