import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agents.engine.process import writer
from core.ops import clock


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    fake = FakeClock()
    previous = clock.use(fake.now)
    yield fake
    clock.use(previous)


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
