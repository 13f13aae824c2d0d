"""Whether anybody holds a transaction open, found out from a connection of its own."""

import sqlite3
from contextlib import closing

from django.db import connection


def is_any_open() -> bool:
    """On SQLite somebody's transaction keeps everybody else from writing; elsewhere the server tells."""
    return _sqlite_is_locked() if connection.vendor == "sqlite" else _somebody_is_idle_in_one()


def _sqlite_is_locked() -> bool:
    name = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(name, timeout=0, isolation_level=None)) as own:
        try:
            own.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        own.execute("ROLLBACK")
        return False


def _somebody_is_idle_in_one() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_stat_activity"
                " WHERE datname = current_database() AND state LIKE 'idle in transaction%')"
            )
            return bool(cursor.fetchone()[0])
    finally:
        connection.close()
