"""SQLite's own backup: a copy of the file at one moment, which keeps nobody from writing."""

import gzip
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from core.ops.backup.databases import (
    Copy,
    Database,
    Dump,
    count_rows,
    left_out,
    migrations_of,
    opened,
    tables_of,
    url_of,
)
from core.ops.backup.errors import BackupError, DamagedError
from core.ops.backup.folders import PART, put_in_place

BLOCK = 2**20
COMPRESSION = 6  # of 9: these cost twice the time for a hundredth of the size
FLAWS_SHOWN = 5


class SQLite(Database):
    vendor = "sqlite"
    member = "database.sqlite3.gz"

    def dump(self, folder: Path) -> Dump:
        whole, packed = folder / "database.sqlite3", folder / self.member
        _copy(_our_file(), whole)
        try:
            with _connected(whole) as wrapper:
                if flaws := _quick_flaws(wrapper):
                    raise BackupError(f"The database is damaged, so it was not backed up: {'; '.join(flaws)}")
                _leave_out(wrapper)
                rows, migrations = count_rows(wrapper), migrations_of(wrapper)
        except DatabaseError as error:
            raise BackupError(f"The copy of the database cannot be used: {error}.") from error
        size = whole.stat().st_size
        with whole.open("rb") as source, gzip.open(packed, "wb", compresslevel=COMPRESSION) as target:
            shutil.copyfileobj(source, target, BLOCK)
        whole.unlink()
        return Dump(packed, size, sqlite3.sqlite_version, rows, migrations)

    def why_not_empty(self) -> str:
        file = _our_file()
        if left := [str(path) for path in _beside(file) if path.exists()]:
            return f"{' and '.join(left)} belongs to a database that was there before. Move it away."
        if not file.exists() or not file.stat().st_size:
            return ""
        with _connected(file) as wrapper:
            tables = tables_of(wrapper)
        return f"{file} has {len(tables)} tables." if tables else ""

    def restore(self, dump: Path, max_bytes: int) -> None:
        file = _our_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = file.with_name(f"{PART}{file.name}")
        part.unlink(missing_ok=True)
        try:
            _unpack(dump, part, max_bytes)
            connection.close()
            put_in_place(part, file)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def aside(self, dump: Path, max_bytes: int) -> Iterator[Copy]:
        file = dump.with_name("aside.sqlite3")
        _unpack(dump, file, max_bytes)
        try:
            with _connected(file) as wrapper:
                yield Copy(url_of(str(file)), wrapper)
        finally:
            for path in (file, *_beside(file)):
                path.unlink(missing_ok=True)

    def flaws(self, wrapper: BaseDatabaseWrapper) -> list[str]:
        with wrapper.cursor() as cursor:
            cursor.execute("PRAGMA integrity_check")
            found = [str(text) for (text,) in cursor.fetchall() if text != "ok"]
            cursor.execute("PRAGMA foreign_key_check")
            found += [
                f"row {row} of {table} refers to a {parent} that is not there" for table, row, parent, _ in cursor
            ]
        return found[:FLAWS_SHOWN]


def _our_file() -> Path:
    return Path(connection.settings_dict["NAME"])


def _beside(file: Path) -> list[Path]:
    return [file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def _copy(source: Path, target: Path) -> None:
    """Copy a database that others use, in one step: writers would have it begin anew after each."""
    target.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True)) as ours,
            closing(sqlite3.connect(target)) as theirs,
        ):
            ours.backup(theirs)
            theirs.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}.") from error


def _leave_out(copy: BaseDatabaseWrapper) -> None:
    """Empty the tables that are in no backup, and overwrite what stood there."""
    with copy.cursor() as cursor:
        cursor.execute("PRAGMA secure_delete = ON")
        for table in left_out(copy):
            cursor.execute(f"DELETE FROM {copy.ops.quote_name(table)}")  # noqa: S608 - a table's name
        cursor.execute("PRAGMA compile_options")
        if ("SECURE_DELETE",) not in cursor.fetchall():  # else free pages may tell of earlier ones
            cursor.execute("VACUUM")


def _unpack(dump: Path, target: Path, max_bytes: int) -> None:
    target.touch(mode=0o600, exist_ok=False)
    written = 0
    try:
        with gzip.open(dump, "rb") as source, target.open("wb") as file:
            while block := source.read(BLOCK):
                written += len(block)
                if written > max_bytes:
                    raise DamagedError("The database in the archive is larger than it says.")
                file.write(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedError("The database in the archive does not unpack.") from error


@contextmanager
def _connected(file: Path) -> Iterator[BaseDatabaseWrapper]:
    wrapper = opened(NAME=str(file))
    try:
        yield wrapper
    finally:
        wrapper.close()


def _quick_flaws(wrapper: BaseDatabaseWrapper) -> list[str]:
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA quick_check")
        return [str(text) for (text,) in cursor.fetchall() if text != "ok"][:FLAWS_SHOWN]
