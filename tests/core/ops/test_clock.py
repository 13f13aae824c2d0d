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
