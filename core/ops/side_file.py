"""SQLite files beside the database, for what must not wait for whoever writes there, nor for the disk."""

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import OperationalError

BUSY_SECONDS = 5.0


class SideFile:
    """An SQLite file of its own. The threads of a process share one connection and take turns.

    Its commits wait for no disk (synchronous=NORMAL): the loss of power may undo the last of them, unless they are
    `durable`. schema: statements that make what is missing; they run at each opening.
    """

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self._path = path
        self._schema = schema
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def run(self, sql: str, values: Sequence[Any] = (), *, durable: bool = False) -> list[Any]:
        """Run a statement, its places marked by %s as Django has them; returns its rows. Raises django.db.Error."""
        with self._lock:
            try:
                opened = self._open()
                if not durable:
                    return opened.execute(sql.replace("%s", "?"), values).fetchall()
                opened.execute("PRAGMA synchronous=FULL")
                try:
                    return opened.execute(sql.replace("%s", "?"), values).fetchall()
                finally:
                    opened.execute("PRAGMA synchronous=NORMAL")
            except sqlite3.Error as error:
                raise OperationalError(f"{self._path.name}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        """The connection of this process: one that was opened before a fork must not be used after it."""
        if self._connection is None or self._process != os.getpid():
            self._connection, self._process = self._connect(), os.getpid()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("PRAGMA synchronous=NORMAL")
        for statement in self._schema:
            opened.execute(statement)
        return opened
