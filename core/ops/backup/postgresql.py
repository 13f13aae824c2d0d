"""PostgreSQL by its own programs, pg_dump and pg_restore.

What they are told stands in the list of processes, which everybody may read; the password comes by the environment.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from core.logs import mask, one_line
from core.ops import tether
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
from core.ops.backup.errors import ProgramError, UnableError

# What Django and psycopg know of a connection, and PostgreSQL's own programs do not.
NOT_FOR_PROGRAMS = {"context", "cursor_factory", "options", "pool", "prepare_threshold", "client_encoding", "password"}
ASIDE = "_aside_"
MAX_NAME = 63  # characters that PostgreSQL keeps of a name
ERROR_CHARACTERS = 1000


class PostgreSQL(Database):
    vendor = "postgresql"
    member = "database.pgdump"

    def dump(self, folder: Path) -> Dump:
        """Count and dump the same snapshot, which the counting transaction lends to pg_dump."""
        file = folder / self.member
        with _connected() as wrapper, wrapper.cursor() as cursor:
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SET {limit} = 0")
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot(), pg_database_size(current_database()), version()")
            snapshot, size, server = cursor.fetchone()
            empty = left_out(wrapper)
            rows = {**count_rows(wrapper), **dict.fromkeys(empty, 0)}
            migrations = migrations_of(wrapper)
            _run(
                *("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"),
                *(f"--exclude-table-data={table}" for table in empty),
                file=file,
            )
            cursor.execute("COMMIT")
        return Dump(file, int(size), str(server)[:100], rows, migrations)

    def why_not_empty(self) -> str:
        with _connected() as wrapper:
            tables = tables_of(wrapper)
            return f"The database {wrapper.settings_dict['NAME']} has {len(tables)} tables." if tables else ""

    def restore(self, dump: Path, max_bytes: int) -> None:
        connection.close()
        _restore(dump, str(connection.settings_dict["NAME"]))

    @contextmanager
    def aside(self, dump: Path, max_bytes: int) -> Iterator[Copy]:
        ours = str(connection.settings_dict["NAME"])[: MAX_NAME - len(ASIDE) - 8]
        name = f"{ours}{ASIDE}{secrets.token_hex(4)}"
        with _connected() as manager:
            _drop_abandoned(manager, f"{ours}{ASIDE}")
            _execute(manager, f"CREATE DATABASE {manager.ops.quote_name(name)} TEMPLATE template0")
            try:
                _restore(dump, name)
                with _connected(NAME=name) as wrapper:
                    wrapper.ensure_connection()  # who looks for abandoned ones sees that it is none
                    yield Copy(url_of(name), wrapper)
            finally:
                _execute(manager, f"DROP DATABASE IF EXISTS {manager.ops.quote_name(name)} WITH (FORCE)")

    def flaws(self, wrapper: BaseDatabaseWrapper) -> list[str]:
        """Nothing is left to look for: restoring built every index and checked every reference."""
        return []


@contextmanager
def _connected(**changes: Any) -> Iterator[BaseDatabaseWrapper]:
    wrapper = opened(**changes)
    try:
        yield wrapper
    finally:
        wrapper.close()


def _drop_abandoned(manager: BaseDatabaseWrapper, prefix: str) -> None:
    """Drop what a drill left that was killed: databases of our making to which nobody is connected."""
    with manager.cursor() as cursor:
        cursor.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            " AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pg_stat_activity.datname = pg_database.datname)",
            [prefix],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP DATABASE IF EXISTS {manager.ops.quote_name(name)}")


def _execute(manager: BaseDatabaseWrapper, statement: str) -> None:
    try:
        with manager.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(statement)
    except DatabaseError as error:
        hint = f"Its user needs the right to create databases: ALTER ROLE {manager.settings_dict['USER']} CREATEDB."
        raise UnableError(f"No copy can be made aside: {str(error).strip()}. {hint}") from error


def _restore(dump: Path, name: str) -> None:
    _run(
        *("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"),
        *("--dbname", _address(name), str(dump)),
    )


def _run(program: str, *arguments: str, file: Path | None = None) -> None:
    """Run a program of PostgreSQL that dies with us. file: what it writes of our database.

    Raises UnableError, ProgramError.
    """
    if shutil.which(program) is None:
        raise UnableError(f"{program} is not installed. On Debian: apt-get install postgresql-client")
    more = ["--file", str(file), "--dbname", _address(str(connection.settings_dict["NAME"]))] if file else []
    password = str(connection.settings_dict["PASSWORD"] or "")
    done = subprocess.run(
        tether.command(program, *arguments, *more),
        cwd=settings.BASE_DIR,
        env={**os.environ, **({"PGPASSWORD": password} if password else {}), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        said = mask(done.stderr.decode(errors="replace").strip())[-ERROR_CHARACTERS:]
        raise ProgramError(f"{program} failed: {one_line(said) or f'exit code {done.returncode}'}")


def _address(name: str) -> str:
    """Name a database as libpq wants it, without the password."""
    given: dict[str, Any] = opened(NAME=name).get_connection_params()
    kept = {key: value for key, value in given.items() if key not in NOT_FOR_PROGRAMS}
    return " ".join(f"{key}={_quoted(value)}" for key, value in kept.items())


def _quoted(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
