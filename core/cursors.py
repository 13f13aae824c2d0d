"""The cursors of both databases: Django's and django-prometheus's, with less to do around each statement.

Theirs look labels up, write to three places that processes share, and step through a dozen functions, for every
statement; that takes longer than a small statement does. Ours only note how long each took. What gathered is added to
django-prometheus's metrics together: within a second while there are statements, before this process reads the
metrics, and when it ends.
"""

import atexit
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Collection
from functools import cache
from threading import Lock
from time import perf_counter
from typing import Any

from django.apps import apps
from django.db.backends.utils import CursorWrapper
from django_prometheus.db import errors_total, execute_many_total, execute_total, query_duration_seconds
from prometheus_client import Histogram

PUBLISH_SECONDS = 1.0


class Cursor(CursorWrapper):
    """What Django wraps a cursor in; errors are translated where there are any."""

    def execute(self, sql: Any, params: Any = None) -> Any:
        if self.db.execute_wrappers or not apps.ready:
            return super().execute(sql, params)
        self.db.validate_no_broken_transaction()
        try:
            return self.cursor.execute(sql, params)
        except self.db.Database.Error:
            with self.db.wrap_database_errors:
                raise

    def fetchone(self) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchone()

    def fetchmany(self, *size: int) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchmany(*size)

    def fetchall(self) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchall()

    def close(self) -> None:
        self.cursor.close()


class _Tally:
    """What the statements of a database took that the metrics do not hold yet."""

    def __init__(self, alias: str, vendor: str) -> None:
        self._labels = alias, vendor
        self._durations: deque[float] = deque()
        self._bulks: deque[int] = deque()
        self._lock = Lock()
        self.publish_at = perf_counter() + PUBLISH_SECONDS
        # Notes what took so many seconds, and how many statements one call was that held several.
        self.took, self.took_many = self._durations.append, self._bulks.append

    def failed(self, error: Exception) -> None:
        errors_total.labels(*self._labels, type(error).__name__).inc()

    def publish(self) -> None:
        with self._lock:
            self.publish_at = perf_counter() + PUBLISH_SECONDS
            durations, bulks = _take(self._durations), _take(self._bulks)
            execute_total.labels(*self._labels).inc(len(durations) + sum(bulks) - len(bulks))
            execute_many_total.labels(*self._labels).inc(sum(bulks))
            observe_all(query_duration_seconds.labels(*self._labels), durations)


def _take(gathered: deque[Any]) -> list[Any]:
    return [gathered.popleft() for _ in range(len(gathered))]


@cache
def _tally(alias: str, vendor: str) -> _Tally:
    tally = _Tally(alias, vendor)
    _tallies.append(tally)
    return tally


_tallies: list[_Tally] = []


@atexit.register
def publish() -> None:
    """Have the metrics hold every statement of this process."""
    for tally in _tallies:
        tally.publish()


@cache
def counting(cursor_class: Any, alias: str, vendor: str) -> Any:
    """Make a database's own class of cursors count what they are given."""
    tally = _tally(alias, vendor)
    execute, executemany = cursor_class.execute, cursor_class.executemany

    class CountingCursor(cursor_class):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            begun = perf_counter()
            try:
                return execute(self, *args, **kwargs)
            except Exception as error:
                tally.failed(error)
                raise
            finally:
                ended = perf_counter()
                tally.took(ended - begun)
                if ended > tally.publish_at:
                    tally.publish()

        def executemany(self, query: Any, param_list: Any, *args: Any, **kwargs: Any) -> Any:
            tally.took_many(len(param_list))
            begun = perf_counter()
            try:
                return executemany(self, query, param_list, *args, **kwargs)
            except Exception as error:
                tally.failed(error)
                raise
            finally:
                tally.took(perf_counter() - begun)

    return CountingCursor


def observe_all(histogram: Histogram, amounts: Collection[float]) -> None:
    """Observe many amounts at the cost of few; prometheus_client writes to two shared places for each."""
    if not amounts:
        return
    histogram._sum.inc(sum(amounts))
    times: dict[int, int] = defaultdict(int)
    for amount in amounts:
        times[bisect_left(histogram._upper_bounds, amount)] += 1
    for place, number in times.items():
        histogram._buckets[place].inc(number)
