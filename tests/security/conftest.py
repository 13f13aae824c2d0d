"""Attackers' tools."""

from collections.abc import Iterator

import pytest

from tests.servers import Canary


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A service of this machine that no call may reach."""
    canary = Canary()
    yield canary
    canary.close()
