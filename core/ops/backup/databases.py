"""What backups do with a database, whichever it is: `ours()` is the one that this program uses.

`sqlite` and `postgresql` know how. Whoever looks into a copy does so by a connection of its own.
"""

import copy
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from core.ops.backup.errors import BackupError

# Sign-ins that are going on. Who reads a backup could go on with them, and those ended since would be valid again.
LEFT_OUT = ("django_session", "core_device", "core_tokenfamily")


@dataclass(frozen=True)
class Dump:
    """A copy of the database at one moment, without what is LEFT_OUT, and what stands in it.

    bytes: of the database, unpacked.
    """

    file: Path
    bytes: int
    server: str
    rows: dict[str, int]
    migrations: dict[str, list[str]]


@dataclass(frozen=True)
class Copy:
    """A database aside. url: with which the program works on it."""

    url: str
    wrapper: BaseDatabaseWrapper


class Database(ABC):
    """One kind of database. member: what a dump is called in an archive."""

    vendor: str
    member: str

    @abstractmethod
    def dump(self, folder: Path) -> Dump:
        """Copy the database into a folder, as it is at one moment, while others write. Raises BackupError, OSError."""

    @abstractmethod
    def why_not_empty(self) -> str:
        """Say what is in the place where the database is to be; empty: nothing is."""

    @abstractmethod
    def restore(self, dump: Path, max_bytes: int) -> None:
        """Make the database of a dump, whole or not at all. max_bytes: when it is unpacked.

        Raises BackupError, OSError.
        """

    @abstractmethod
    def aside(self, dump: Path, max_bytes: int) -> AbstractContextManager[Copy]:
        """Make a database of a dump that goes away afterwards. Raises BackupError, OSError."""

    @abstractmethod
    def flaws(self, wrapper: BaseDatabaseWrapper) -> list[str]:
        """Look for what is wrong inside of a database: pages, indexes, references."""


def ours() -> Database:
    from core.ops.backup.postgresql import PostgreSQL  # noqa: PLC0415 - they are Databases, which stands here
    from core.ops.backup.sqlite import SQLite  # noqa: PLC0415

    return SQLite() if connection.vendor == "sqlite" else PostgreSQL()


def opened(**changes: Any) -> BaseDatabaseWrapper:
    """Make a connection of one's own, past the pool and without the limits of those that serve.

    changes: settings of the database that are others, such as NAME.
    """
    ours = connections[DEFAULT_DB_ALIAS]
    wanted = copy.deepcopy({**ours.settings_dict, **changes})
    for option in ("pool", "options", "init_command", "transaction_mode"):
        wanted["OPTIONS"].pop(option, None)
    return type(ours)(wanted, "backup")


def url_of(name: str) -> str:
    """The address of another database: on the same server, or the file of that name."""
    if connection.vendor == "sqlite":
        return f"sqlite:///{quote(name)}"
    parts = urlsplit(settings.DATABASE_URL)
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}").geturl()


def tables_of(wrapper: BaseDatabaseWrapper) -> list[str]:
    with wrapper.cursor() as cursor:
        return sorted(wrapper.introspection.table_names(cursor))


def count_rows(wrapper: BaseDatabaseWrapper) -> dict[str, int]:
    """Count the rows of every table, and so read all of them."""
    found = {}
    with wrapper.cursor() as cursor:
        for table in tables_of(wrapper):
            cursor.execute(f"SELECT count(*) FROM {wrapper.ops.quote_name(table)}")  # noqa: S608 - a table's name
            found[table] = int(cursor.fetchone()[0])
    return found


def left_out(wrapper: BaseDatabaseWrapper) -> list[str]:
    """Name the tables whose rows are in no backup; a database of another version may lack some."""
    return [table for table in tables_of(wrapper) if table in LEFT_OUT]


def migrations_of(wrapper: BaseDatabaseWrapper) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if "django_migrations" not in tables_of(wrapper):
        return found
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        for app, name in cursor.fetchall():
            found.setdefault(app, []).append(name)
    return found


def missing(migrations: dict[str, list[str]]) -> list[str]:
    """Name the migrations of this program that a database does not have, where some are applied."""
    known = MigrationLoader(None).disk_migrations
    return sorted(f"{app}.{name}" for app, name in known if name not in migrations.get(app, ()))


def unknown(migrations: dict[str, list[str]]) -> list[str]:
    """Name the migrations that a newer program has applied. What is not installed any more says nothing of that."""
    loader = MigrationLoader(None)
    known = set(loader.disk_migrations) | {
        key for squashed in loader.disk_migrations.values() for key in squashed.replaces
    }
    return [
        f"{app}.{name}"
        for app, names in migrations.items()
        if app in loader.migrated_apps
        for name in names
        if (app, name) not in known
    ]


def refuse_newer(migrations: dict[str, list[str]]) -> None:
    """Refuse a backup that a newer program made. Raises BackupError."""
    if names := unknown(migrations):
        raise BackupError(
            f"The backup was made by a newer version of this program ({', '.join(names[:5])}). Restore it with that."
        )
