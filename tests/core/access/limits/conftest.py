"""The places where counts may be kept."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from core.access.limits.windows import _Redis
from core.ops import clock


@pytest.fixture(autouse=True)
def redis_is_asked_again() -> None:
    _Redis.away_until = float("-inf")


class HandClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.moment = timezone.now()

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def hand_clock() -> Iterator[HandClock]:
    hand = HandClock()
    previous: Callable[[], datetime] = clock.use(hand.now)
    yield hand
    clock.use(previous)
