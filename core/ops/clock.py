"""The one clock that leases, heartbeats, deadlines and retries are measured with: the database's."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.db import connection

from core import database

SYNC_SECONDS = 5.0
# By more a clock that keeps time is never corrected; less harms no lease.
MAX_CORRECTION_SECONDS = 5.0
MAX_READING_SECONDS = 1.0


class DatabaseClock:
    """The database's clock, read every few seconds and carried on in between by this machine's steady one.

    Processes on several hosts then agree on when a lease ended, however wrong their own clocks are. Reading it each
    time would be a trip to the database for every write. On SQLite it is the machine's own. An event loop, which may
    not wait for the database, carries on what threads read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._then = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        if database.vendor() != "postgresql":
            return datetime.now(UTC)
        with self._lock:
            then, passed = self._then, _steady_seconds() - self._read_at
        if passed <= SYNC_SECONDS:
            return then + timedelta(seconds=passed)
        if not _is_on_event_loop():
            return self._read()
        return datetime.now(UTC) if math.isinf(passed) else then + timedelta(seconds=passed)

    def _read(self) -> datetime:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
        with self._lock:
            self._then, self._read_at = moment, _steady_seconds()
        return moment


class Steps:
    """Notices where somebody set the clock: since the last look it has not gone the way of the steady one."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def look(self) -> float:
        """Return by how many seconds it was set since the last look, below zero if back; 0 where it was not."""
        begun = _steady_seconds()
        moment = now()
        if _steady_seconds() - begun > MAX_READING_SECONDS:
            return 0.0  # nobody knows when within this time it was read
        before, self._ahead = self._ahead, moment.timestamp() - begun
        by = 0.0 if before is None else self._ahead - before
        return by if abs(by) > MAX_CORRECTION_SECONDS else 0.0


def _steady_seconds() -> float:
    """Seconds that pass while the machine sleeps too, and that nobody can set back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_source: Callable[[], datetime] = DatabaseClock().now


def now() -> datetime:
    return _source()


def use(source: Callable[[], datetime]) -> Callable[[], datetime]:
    """Take the time from somewhere else, as tests do; returns the source used before."""
    global _source
    previous, _source = _source, source
    return previous
