"""What PostgreSQL can tell of statements, whoever asked them: those that run too long, and its own statistics.

Its sessions may belong to other programs, such as a backup or somebody's terminal. SQLite knows of none of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from core.ops import sql_text

TOO_LONG_SECONDS = 300
MOST_SHOWN = 20


@dataclass(frozen=True)
class Running:
    """A session that has worked at one statement for too long, or has left its transaction open for so long.

    since: of the statement, or of what its session waits for. It also tells this statement from a later one.
    """

    pid: int
    user: str
    program: str
    is_idle: bool
    waits_for: str
    since: datetime
    text: str


@dataclass(frozen=True)
class Statistic:
    """A statement of pg_stat_statements, since these began to count."""

    text: str
    count: int
    mean_seconds: float
    worst_seconds: float
    total_seconds: float


def running_too_long() -> list[Running]:
    if connection.vendor != "postgresql":
        return []
    rows = _rows(
        """
        SELECT pid, coalesce(usename, ''), application_name, state <> 'active', coalesce(wait_event_type, ''),
               state_change, query
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
          AND state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')
          AND state_change < clock_timestamp() - make_interval(secs => %s)
        ORDER BY state_change LIMIT %s
        """,
        [TOO_LONG_SECONDS, MOST_SHOWN],
    )
    return [
        Running(pid, user, program, is_idle, waits_for, since, sql_text.normalised(text))
        for pid, user, program, is_idle, waits_for, since, text in rows
    ]


def stop(pid: int, since: datetime) -> bool:
    """End a statement, or the session whose transaction lies open; False if it did so itself meanwhile."""
    if connection.vendor != "postgresql":
        return False
    done = _rows(
        """
        SELECT CASE WHEN state = 'active' THEN pg_cancel_backend(pid) ELSE pg_terminate_backend(pid) END
        FROM pg_stat_activity
        WHERE pid = %s AND state_change = %s AND datname = current_database() AND backend_type = 'client backend'
          AND pid <> pg_backend_pid()
        """,
        [pid, since],
    )
    return done == [(True,)]


def statistics() -> list[Statistic] | None:
    """What pg_stat_statements counted of statements that are slow on average; None where it is not present."""
    if connection.vendor != "postgresql" or not _rows(
        "SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'"
    ):
        return None
    try:
        with transaction.atomic():
            rows = _rows(
                """
                SELECT query, calls, mean_exec_time / 1000, max_exec_time / 1000, total_exec_time / 1000
                FROM pg_stat_statements
                WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND mean_exec_time >= %s
                ORDER BY total_exec_time DESC LIMIT %s
                """,
                [settings.SLOW_QUERY_SECONDS * 1000, MOST_SHOWN],
            )
    except DatabaseError:  # created, and not among shared_preload_libraries
        return None
    return [Statistic(sql_text.normalised(text), *figures) for text, *figures in rows]


def _rows(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
