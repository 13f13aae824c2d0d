"""The cursors of both databases: Django's and django-prometheus's, with less to do around each statement.

Theirs look labels up, write to three places that processes share, and step through a dozen functions, for every
statement; that takes longer than a small statement does. Ours only note how long each took, for the metrics and for
the list of slow queries. What gathered is added to the metrics together: within a second while there are statements,
before this process reads the metrics, and when it ends.
"""

import atexit
import math
import re
import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Collection
from functools import cache, lru_cache
from time import perf_counter
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.db.backends.utils import CursorWrapper
from django_prometheus.db import errors_total, execute_many_total, execute_total, query_duration_seconds
from prometheus_client import Histogram

from core.ops import traffic

PUBLISH_SECONDS = 1.0
MOST_SLOW = 1000  # statements that wait to be looked at; in a flood the newest are kept

duration = Histogram(
    "db_query_duration_seconds",
    "What statements took until their first row, by their kind.",
    ["query_type"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUERY_TYPES = {
    **{word: word for word in ("select", "insert", "update", "delete")},
    "with": "select",
    **dict.fromkeys(("begin", "commit", "rollback", "savepoint", "release"), "transaction"),
}
OTHER = "other"
_NUMBER = re.compile(r"[-_]?\d+")
_BEGINNING = 16  # characters that tell the kind; nobody keeps a whole text for that


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


class Slow(NamedTuple):
    """A statement that took long, without its values, which may be secrets.

    work: the route, task or thread that asked.
    """

    sql: str
    seconds: float
    work: str


slow: deque[Slow] = deque(maxlen=MOST_SLOW)


@lru_cache(maxsize=256)
def query_type(beginning: str) -> str:
    """Name the kind of a statement that begins so."""
    words = beginning.lower().split(maxsplit=1)
    return QUERY_TYPES.get(words[0].strip("(;"), OTHER) if words else OTHER


def thread_work(name: str) -> str:
    """Name the work of a thread that serves no request: the same for all threads that do the same."""
    return f"thread {_NUMBER.sub('', name)}"


class Durations:
    """What the statements of a database took that the metrics do not hold yet."""

    def __init__(self, alias: str, vendor: str) -> None:
        self._labels = alias, vendor
        # The beginning of each, what it took, and how many statements it was if it was a call with many.
        self._taken: deque[tuple[str, float, int | None]] = deque()
        self._lock = threading.Lock()
        self._publish_at = perf_counter() + PUBLISH_SECONDS
        self._slow_seconds = settings.SLOW_QUERY_SECONDS or math.inf

    def took(self, sql: Any, begun: float, count: int | None = None) -> float:
        """Note a statement that has ended; returns what it took.

        sql: text, or one of the driver's own forms, which may hold values.
        """
        ended = perf_counter()
        seconds = ended - begun
        is_text = sql.__class__ is str
        self._taken.append((sql[:_BEGINNING] if is_text else "", seconds, count))
        if seconds >= self._slow_seconds and is_text:
            self._note(sql, seconds)
        if ended > self._publish_at:
            self.publish()
        return seconds

    def fetched(self, last: tuple[str, float], fetch_seconds: float) -> None:
        """Note a statement that was not slow until its rows were fetched. last: which, and what it took before."""
        sql, seconds = last
        if seconds < self._slow_seconds <= seconds + fetch_seconds:
            self._note(sql, seconds + fetch_seconds)

    def _note(self, sql: str, seconds: float) -> None:
        slow.append(Slow(sql, seconds, traffic.endpoint() or thread_work(threading.current_thread().name)))

    def failed(self, error: Exception) -> None:
        errors_total.labels(*self._labels, type(error).__name__).inc()

    def publish(self) -> None:
        with self._lock:
            self._publish_at = perf_counter() + PUBLISH_SECONDS
            taken = [self._taken.popleft() for _ in range(len(self._taken))]
        of_many = sum(count for *_, count in taken if count is not None)
        execute_total.labels(*self._labels).inc(of_many + sum(count is None for *_, count in taken))
        execute_many_total.labels(*self._labels).inc(of_many)
        by_type: dict[str, list[float]] = defaultdict(list)
        for beginning, seconds, _ in taken:
            by_type[query_type(beginning)].append(seconds)
        for kind, amounts in by_type.items():
            observe_all(duration.labels(kind), amounts)
            observe_all(query_duration_seconds.labels(*self._labels), amounts)


@cache
def durations(alias: str, vendor: str) -> Durations:
    made = Durations(alias, vendor)
    _all.append(made)
    return made


_all: list[Durations] = []


@atexit.register
def publish() -> None:
    """Have the metrics hold every statement of this process."""
    for noted in _all:
        noted.publish()


@cache
def counting(cursor_class: Any, alias: str, vendor: str) -> Any:
    """Make a database's own class of cursors note what its statements take."""
    noted = durations(alias, vendor)
    took, failed = noted.took, noted.failed
    execute, executemany = cursor_class.execute, cursor_class.executemany

    class CountingCursor(cursor_class):
        last = "", 0.0  # a statement, and what it took
        fetch_seconds = 0.0

        def execute(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
            begun = perf_counter()
            try:
                return execute(self, sql, *args, **kwargs)
            except Exception as error:
                failed(error)
                raise
            finally:
                self.last, self.fetch_seconds = (sql, took(sql, begun)), 0.0

        def executemany(self, sql: Any, param_list: Any, *args: Any, **kwargs: Any) -> Any:
            begun = perf_counter()
            try:
                return executemany(self, sql, param_list, *args, **kwargs)
            except Exception as error:
                failed(error)
                raise
            finally:
                took(sql, begun, len(param_list))

    return CountingCursor


@cache
def counting_fetches(cursor_class: Any, alias: str, vendor: str) -> Any:
    """The same for a database that looks for rows while they are fetched, as SQLite does."""
    fetched = durations(alias, vendor).fetched
    fetchone, fetchmany = cursor_class.fetchone, cursor_class.fetchmany
    fetchall, close = cursor_class.fetchall, cursor_class.close

    class FetchingCursor(counting(cursor_class, alias, vendor)):  # type: ignore[misc]
        def fetchone(self) -> Any:
            begun = perf_counter()
            row = fetchone(self)
            self.fetch_seconds += perf_counter() - begun
            return row

        def fetchmany(self, *size: int) -> Any:
            begun = perf_counter()
            rows = fetchmany(self, *size)
            self.fetch_seconds += perf_counter() - begun
            return rows

        def fetchall(self) -> Any:
            begun = perf_counter()
            rows = fetchall(self)
            self.fetch_seconds += perf_counter() - begun
            return rows

        def close(self) -> None:
            fetched(self.last, self.fetch_seconds)
            close(self)

    return FetchingCursor


def observe_all(histogram: Histogram, amounts: Collection[float]) -> None:
    """Observe many amounts at the cost of few; prometheus_client writes to two shared places for each."""
    histogram._sum.inc(sum(amounts))
    for place, number in Tally(bisect_left(histogram._upper_bounds, amount) for amount in amounts).items():
        histogram._buckets[place].inc(number)
