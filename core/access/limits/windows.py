"""Counts within a window of time, shared by all processes: a hit is one atomic step, wherever they are kept.

- Redis, where it is configured: by the scripts of `limits`, over our own pool. While it is away, the database counts.
- PostgreSQL: one upsert, into a table without a log, so that a hit waits for no disk.
- SQLite: the same upsert into a file of its own. In the database it would wait for the disk, and for whoever writes.

A window begins with the first hit after the last one's end. Its count may go beyond the limit: whoever asks compares.
"""

import functools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from limits.storage.base import Storage

from core import database
from core.ops import clock
from core.ops.side_file import SideFile

if TYPE_CHECKING:
    from core.access.limits.redis_windows import RedisWindows

logger = logging.getLogger(__name__)

# While Redis is away it is asked only so often: asking may take as long as its timeout.
REDIS_PAUSE_SECONDS = 5.0

_TABLE = "core_limitwindow"
_COLUMNS = "key, count, ends_at"
_ENDED = "WHERE ends_at <= %s"
_SCHEMA = f"CREATE TABLE IF NOT EXISTS {_TABLE} (key TEXT PRIMARY KEY, count INTEGER, ends_at REAL) WITHOUT ROWID"


class Window(NamedTuple):
    """How often something was done, and until when that counts (seconds since 1970)."""

    hits: int
    ends_at: float

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.ends_at - clock.now().timestamp())


def hit(keys: Sequence[str], seconds: int, amount: int = 1) -> list[Window]:
    """Count something for each of these keys, and tell how often it was done by now.

    amount: -1 takes one back. Raises django.db.Error when nobody can count.
    """
    return _Redis.ask("hit", keys, seconds, amount) or _database.hit(keys, seconds, amount)


def look(keys: Sequence[str]) -> list[Window]:
    """Tell how often something was done for each of these keys, without counting. Raises django.db.Error."""
    return _Redis.ask("look", keys) or _database.look(keys)


def sweep() -> int:
    """Delete windows that are over, where the database keeps them; returns how many. Redis does so by itself."""
    return _database.sweep()


def ended() -> int:
    """How many windows `sweep` would delete."""
    return _database.ended()


def size() -> int:
    """How many windows the database keeps."""
    return _database.size()


class DatabaseWindows(Storage):
    """A storage of `limits` over one table, for the algorithms that only count (fixed windows)."""

    @property
    def base_exceptions(self) -> type[Exception]:
        return DatabaseError

    def hit(self, keys: Sequence[str], seconds: int, amount: int = 1) -> list[Window]:
        now = clock.now().timestamp()
        values: list[Any] = []
        for key in sorted(keys):  # in one order everywhere: two who count for the same keys never wait for each other
            values += (key, amount, now + seconds)
        return _in_order(keys, _run(_upsert(len(keys)), [*values, now, now]), now)

    def look(self, keys: Sequence[str]) -> list[Window]:
        now = clock.now().timestamp()
        marks = ", ".join(["%s"] * len(keys))
        rows = _run(
            f"SELECT {_COLUMNS} FROM {_TABLE} WHERE key IN ({marks}) AND ends_at > %s",  # noqa: S608 - marks only
            [*keys, now],
        )
        return _in_order(keys, rows, now)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self.hit([key], expiry, amount)[0].hits

    def get(self, key: str) -> int:
        return self.look([key])[0].hits

    def get_expiry(self, key: str) -> float:
        return self.look([key])[0].ends_at

    def check(self) -> bool:
        try:
            self.look([""])
        except DatabaseError:
            return False
        return True

    def clear(self, key: str) -> None:
        _run(f"DELETE FROM {_TABLE} WHERE key = %s RETURNING key", [key])  # noqa: S608 - a name of ours

    def reset(self) -> int:
        return len(_run(f"DELETE FROM {_TABLE} RETURNING key"))  # noqa: S608 - as above

    def sweep(self) -> int:
        now = clock.now().timestamp()
        return len(_run(f"DELETE FROM {_TABLE} {_ENDED} RETURNING key", [now]))  # noqa: S608 - as above

    def ended(self) -> int:
        now = clock.now().timestamp()
        return int(_run(f"SELECT COUNT(*) FROM {_TABLE} {_ENDED}", [now])[0][0])  # noqa: S608 - as above

    def size(self) -> int:
        return int(_run(f"SELECT COUNT(*) FROM {_TABLE}")[0][0])  # noqa: S608 - as above


@functools.cache
def _upsert(keys: int) -> str:
    """Count for so many keys in one statement."""
    return (
        f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES {', '.join(['(%s, %s, %s)'] * keys)} "  # noqa: S608 - marks only
        "ON CONFLICT (key) DO UPDATE SET "
        f"count = excluded.count + CASE WHEN {_TABLE}.ends_at > %s THEN {_TABLE}.count ELSE 0 END, "
        f"ends_at = CASE WHEN {_TABLE}.ends_at > %s THEN {_TABLE}.ends_at ELSE excluded.ends_at END "
        f"RETURNING {_COLUMNS}"
    )


def _in_order(keys: Sequence[str], rows: Sequence[Any], now: float) -> list[Window]:
    found = {key: Window(count, ends_at) for key, count, ends_at in rows}
    nothing = Window(0, now)
    return [found.get(key, nothing) for key in keys]


def _run(sql: str, values: Sequence[Any] = ()) -> list[Any]:
    if database.vendor() == "sqlite":
        return _file(settings.LIMITS_FILE).run(sql, values)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[Any] = cursor.fetchall()
    return rows


@functools.cache
def _file(path: Path) -> SideFile:
    return SideFile(path, [_SCHEMA])


class _Redis:
    """Redis, as long as it answers."""

    away_until = float("-inf")

    @classmethod
    def ask(cls, question: str, *arguments: Any) -> list[Window] | None:
        """Have Redis count; None where it is not configured or away."""
        if not settings.REDIS_URL or time.monotonic() < cls.away_until:
            return None
        windows, errors = _redis()
        try:
            answer: list[Window] = getattr(windows, question)(*arguments)
        except errors as error:
            cls.away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            logger.warning("Redis is away; the database counts instead: %s", error)
            return None
        return answer


def _redis() -> "tuple[RedisWindows, tuple[type[Exception], ...]]":
    from core.access.limits import redis_windows  # noqa: PLC0415 - only where Redis is configured

    return redis_windows.windows(), redis_windows.ERRORS


_database = DatabaseWindows()
