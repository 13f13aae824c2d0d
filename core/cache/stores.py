"""Level 2: the store that all processes share.

Redis where it is configured; else a table of PostgreSQL; on SQLite a file of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from django.conf import settings
from django.db import connection

from core.cache.entries import Found, Row, Stamp, Usage
from core.cache.sql_store import FileStore, TableStore


class Store(Protocol):
    """Where entries and the generations of tags are kept. Raises `errors` when it does not answer.

    name: of this very store; another server is another store.
    """

    name: str
    label: str
    errors: tuple[type[Exception], ...]

    def look(self, key: str, tags: Sequence[str], known: str) -> Found:
        """Tell the present generations of tags, making those that are missing, and find an entry made under them.

        known: generations of the caller's own copy; the value is not sent where they are the present ones.
        """

    def put(self, key: str, value: bytes, stamp: Stamp, ttl_seconds: float) -> int | None:
        """Take an entry, dropping the least used for want of room; returns how many. None: it was not taken."""

    def renew(self, generations: Mapping[str, str]) -> None:
        """Give tags other generations, for good."""

    def note_hits(self, hits: Mapping[str, int]) -> None:
        """Count what was found in any level, and use it anew."""

    def most_used(self, count: int) -> list[str]: ...

    def pages(self) -> Iterator[list[str]]:
        """All keys, some at a time."""

    def rows(self, keys: Sequence[str]) -> list[Row]:
        """What is known of those entries that are there."""

    def drop(self, keys: Sequence[str]) -> None: ...

    def usage(self) -> Usage: ...


def store() -> Store:
    """The store that the settings want."""
    if settings.REDIS_URL:
        from core.cache import redis_store  # noqa: PLC0415 - only where Redis is configured

        return redis_store.store(settings.REDIS_URL)
    return _file if connection.vendor == "sqlite" else _table


_file = FileStore()
_table = TableStore()


def largest_value_bytes() -> int:
    """A value may have so many bytes: one alone must not drive out all others."""
    return min(settings.CACHE_VALUE_BYTES, settings.CACHE_SHARED_BYTES // 8)
