"""The one clock that leases, deadlines and retries are measured with: the database's."""

from collections.abc import Callable
from datetime import datetime

from django.db import connection
from django.utils import timezone


def database_now() -> datetime:
    """Read the database's clock; on SQLite that is the machine's own.

    Processes on several hosts then agree on when a lease ended, however wrong their own clocks are.
    """
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


_source: Callable[[], datetime] = database_now


def now() -> datetime:
    return _source()


def use(source: Callable[[], datetime]) -> Callable[[], datetime]:
    """Take the time from somewhere else, as tests do; returns the source used before."""
    global _source
    previous, _source = _source, source
    return previous
