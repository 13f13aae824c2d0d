"""The one clock on a real database."""

import asyncio
import time
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.ops import clock as module
from core.ops.clock import DatabaseClock

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]


def test_it_agrees_with_the_database_between_two_readings() -> None:
    clock = DatabaseClock()
    first = clock.now()
    time.sleep(0.05)
    second = clock.now()
    assert timedelta(seconds=0.05) <= second - first < timedelta(seconds=5)
    # The database runs on this machine.
    assert abs(second - timezone.now()) < timedelta(seconds=1)


def test_it_seldom_asks_the_database() -> None:
    clock = DatabaseClock()
    with CaptureQueriesContext(connection) as queries:
        for _ in range(100):
            clock.now()
    assert len(queries) == (connection.vendor == "postgresql")


def test_a_step_is_told_once_with_how_far_it_went(fake_clock) -> None:
    steps = module.Steps()
    assert steps.look() == 0
    fake_clock.advance(4.9)
    assert steps.look() == 0
    for seconds in (7200, -7200):
        fake_clock.advance(seconds)
        assert steps.look() == pytest.approx(seconds, abs=4.9)
        assert steps.look() == 0


def test_an_answer_that_took_its_time_is_no_step(fake_clock, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = module.Steps()
    steps.look()
    fake_clock.advance(7200)
    with monkeypatch.context() as patch:
        moments = iter([0.0, 7.0])
        patch.setattr(module, "_steady_seconds", lambda: next(moments))
        assert steps.look() == 0
    assert steps.look() == pytest.approx(7200, abs=4.9)


def test_an_event_loop_carries_on_what_threads_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> datetime:
        return clock.now()

    clock = DatabaseClock()
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.0)
    unread = asyncio.run(ask())
    read = clock.now()
    with CaptureQueriesContext(connection) as queries:
        carried_on = asyncio.run(ask())
    assert not queries.captured_queries
    assert unread - timedelta(seconds=1) < read <= carried_on < read + timedelta(seconds=60)
