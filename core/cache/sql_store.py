"""Level 2 where Redis is not configured: tables of PostgreSQL, or an SQLite file beside the database.

The limit of bytes is kept by dropping the least used after each 64th of it that this process put: to seven eighths,
so that it holds for as many as eight processes that put at the same time.
"""

import functools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from core.cache.entries import BATCH, MAX_TTL_SECONDS, Found, Row, Stamp, Usage, new_generation, size_of
from core.ops import clock
from core.ops.side_file import SideFile

# As the models have it.
SCHEMA = """
CREATE TABLE IF NOT EXISTS core_cachegeneration (tag TEXT PRIMARY KEY, generation TEXT, made_at REAL);
CREATE TABLE IF NOT EXISTS core_cacheentry
    (key TEXT PRIMARY KEY, generations TEXT, tags TEXT, made_at REAL, ends_at REAL, value BLOB);
CREATE TABLE IF NOT EXISTS core_cacheuse
    (key TEXT PRIMARY KEY, size INTEGER, hits INTEGER, used_at REAL, ends_at REAL);
CREATE INDEX IF NOT EXISTS cache_least_used ON core_cacheuse (used_at, size);
CREATE INDEX IF NOT EXISTS cache_most_used ON core_cacheuse (hits);
CREATE INDEX IF NOT EXISTS cache_expiry ON core_cacheuse (ends_at)
"""
TRIM_AFTER = 1 / 64
TRIM_TO = 7 / 8

_ENTRY = "SELECT NULL, generations, value, made_at, ends_at FROM core_cacheentry WHERE key = %s AND ends_at > %s"
_PRESENT = "SELECT tag, generation, NULL, NULL, NULL FROM core_cachegeneration WHERE tag IN ({marks}) AND made_at > %s"
_RENEW = (
    "INSERT INTO core_cachegeneration (tag, generation, made_at) VALUES {marks} "
    "ON CONFLICT (tag) DO UPDATE SET generation = excluded.generation, made_at = excluded.made_at"
)
_PUT_USE = (
    "INSERT INTO core_cacheuse (key, size, hits, used_at, ends_at) VALUES (%s, %s, 0, %s, %s) "
    "ON CONFLICT (key) DO UPDATE SET size = excluded.size, used_at = excluded.used_at, ends_at = excluded.ends_at"
)
_PUT_ENTRY = (
    "INSERT INTO core_cacheentry (key, generations, tags, made_at, ends_at, value) VALUES (%s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (key) DO UPDATE SET generations = excluded.generations, tags = excluded.tags, "
    "made_at = excluded.made_at, ends_at = excluded.ends_at, value = excluded.value"
)
_NOTE_HITS = (
    "UPDATE core_cacheuse SET hits = core_cacheuse.hits + told.column2, used_at = %s "
    "FROM (VALUES {marks}) AS told WHERE core_cacheuse.key = told.column1"
)
_ROWS = (
    "SELECT key, tags, generations, size, hits, made_at, core_cacheentry.ends_at "
    "FROM core_cacheentry JOIN core_cacheuse USING (key) "
    "WHERE core_cacheentry.ends_at > %s AND key IN ({marks})"
)


class SqlStore:
    """The statements, which SQLite and PostgreSQL share; subclasses run them."""

    name: str
    label: str
    errors: tuple[type[Exception], ...] = (DatabaseError, OSError)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._put_bytes = float("inf")  # since the last trim: those who were here before may have left too much

    def run(self, sql: str, values: Sequence[Any] = (), *, durable: bool = False) -> list[Any]:
        raise NotImplementedError

    def look(self, key: str, tags: Sequence[str], known: str) -> Found:
        now = clock.now().timestamp()
        present, entry = self._ask(key if not known else "", tags, now)
        if len(present) < len(tags):
            self._make([tag for tag in tags if tag not in present], now)
            present, entry = self._ask(key, tags, now)
        generations = ".".join(present.get(tag, "") for tag in tags)
        if known and generations != known:  # the caller's copy is void; another process may have put a newer one
            _, entry = self._ask(key, tags, now)
        if entry is None or entry[0] != generations:
            return Found(generations)
        _, value, made_at, ends_at = entry
        return Found(generations, bytes(value), now - made_at, ends_at - now)

    def _ask(self, key: str, tags: Sequence[str], now: float) -> tuple[dict[str, str], Any]:
        """Read generations, by their tags, and the entry of a key."""
        statement, values = _with_marks(_PRESENT, len(tags)), [*tags, now - MAX_TTL_SECONDS]
        if key:
            statement, values = f"{_ENTRY} UNION ALL {statement}", [key, now, *values]
        present, entry = {}, None
        for tag, *row in self.run(statement, values):
            if tag is None:
                entry = row
            else:
                present[tag] = row[0]
        return present, entry

    def _make(self, tags: Sequence[str], now: float) -> None:
        """Give tags a first generation, or another one after the longest life; whoever is first is right."""
        values = [value for tag in sorted(tags) for value in (tag, new_generation(), now)]
        self.run(
            _with_marks(f"{_RENEW} WHERE core_cachegeneration.made_at <= %s", len(tags), "(%s, %s, %s)"),
            [*values, now - MAX_TTL_SECONDS],
        )

    def put(self, key: str, value: bytes, stamp: Stamp, ttl_seconds: float) -> int:
        now, size = clock.now().timestamp(), size_of(key, value)
        ends_at = now + ttl_seconds
        self.run(_PUT_USE, [key, size, now, ends_at])  # first: what is not counted would never be dropped
        self.run(_PUT_ENTRY, [key, stamp.generations, json.dumps(stamp.tags), now, ends_at, value])
        with self._lock:
            self._put_bytes += size
            trims = self._put_bytes > settings.CACHE_SHARED_BYTES * TRIM_AFTER
            if trims:
                self._put_bytes = 0
        return self._trim() if trims else 0

    def _trim(self) -> int:
        """Drop what has ended, then the least used while there is too much; returns how many of these."""
        ended = self.run("SELECT key FROM core_cacheuse WHERE ends_at <= %s", [clock.now().timestamp()])
        self.drop([key for (key,) in ended])
        excess = self.usage().bytes - settings.CACHE_SHARED_BYTES * TRIM_TO
        evicted = 0
        while excess > 0:
            drops = []
            for key, size in self.run("SELECT key, size FROM core_cacheuse ORDER BY used_at LIMIT %s", [BATCH]):
                if excess > 0:
                    drops.append(key)
                    excess -= size
            self.drop(drops)
            evicted += len(drops)
            if not drops:
                break
        return evicted

    def renew(self, generations: Mapping[str, str]) -> None:
        now = clock.now().timestamp()
        values = [value for tag, generation in sorted(generations.items()) for value in (tag, generation, now)]
        self.run(
            _with_marks(_RENEW, len(generations), "(%s, %s, %s)"),
            values,
            durable=True,  # the loss of power must not bring the old ones back
        )

    def note_hits(self, hits: Mapping[str, int]) -> None:
        pairs = sorted(hits.items())
        for part in _parts(pairs):
            self.run(
                _with_marks(_NOTE_HITS, len(part), "(%s, %s)"),
                [clock.now().timestamp(), *(value for pair in part for value in pair)],
            )

    def most_used(self, count: int) -> list[str]:
        rows = self.run("SELECT key FROM core_cacheuse WHERE hits > 0 ORDER BY hits DESC LIMIT %s", [count])
        return [key for (key,) in rows]

    def pages(self) -> Iterator[list[str]]:
        last = ""
        while found := self.run("SELECT key FROM core_cacheentry WHERE key > %s ORDER BY key LIMIT %s", [last, BATCH]):
            yield [key for (key,) in found]
            last = found[-1][0]

    def rows(self, keys: Sequence[str]) -> list[Row]:
        now, rows = clock.now().timestamp(), {}
        for part in _parts(keys):
            found = self.run(_with_marks(_ROWS, len(part)), [now, *part])
            for key, tags, generations, size, hits, made_at, ends_at in found:
                rows[key] = Row(key, tuple(json.loads(tags)), generations, size, hits, now - made_at, ends_at - now)
        return [rows[key] for key in keys if key in rows]

    def drop(self, keys: Sequence[str]) -> None:
        for part in _parts(keys):
            self.run(_with_marks("DELETE FROM core_cacheentry WHERE key IN ({marks})", len(part)), part)
            self.run(_with_marks("DELETE FROM core_cacheuse WHERE key IN ({marks})", len(part)), part)

    def usage(self) -> Usage:
        ((entries, size),) = self.run("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM core_cacheuse")
        return Usage(entries, int(size))


@functools.lru_cache(maxsize=4096)
def _with_marks(statement: str, count: int, mark: str = "%s") -> str:
    return statement.replace("{marks}", ", ".join([mark] * count))


def _parts(whole: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """So that others get their turn in between."""
    for at in range(0, len(whole), BATCH):
        yield whole[at : at + BATCH]


class TableStore(SqlStore):
    name = "database"
    label = "PostgreSQL"

    def run(self, sql: str, values: Sequence[Any] = (), *, durable: bool = False) -> list[Any]:
        """Run it in the database. A crash empties these tables, so that nothing old can come back."""
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall()) if cursor.description else []


class FileStore(SqlStore):
    name = "file"
    label = "SQLite file"

    def run(self, sql: str, values: Sequence[Any] = (), *, durable: bool = False) -> list[Any]:
        return _file(settings.CACHE_FILE).run(sql, values, durable=durable)


@functools.cache
def _file(path: Path) -> SideFile:
    return SideFile(path, SCHEMA.split(";"))
