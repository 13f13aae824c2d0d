"""The same program on an SQLite that waits for the disk at checkpoints alone: Python runs this first by PYTHONPATH.

For `bench.durability` alone: the loss of power would undo the commits since the last checkpoint.
"""

import sqlite3
from typing import Any

FULL, NORMAL = "synchronous=FULL", "synchronous=NORMAL"


class _Connection(sqlite3.Connection):
    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace(FULL, NORMAL), *arguments)

    def executescript(self, script: str) -> sqlite3.Cursor:
        return super().executescript(script.replace(FULL, NORMAL))


_connect = sqlite3.connect


def _connect_normally(*arguments: Any, **options: Any) -> sqlite3.Connection:
    return _connect(*arguments, **{"factory": _Connection, **options})


sqlite3.connect = sqlite3.dbapi2.connect = _connect_normally
