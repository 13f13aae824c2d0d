"""The pool of this process's connections to PostgreSQL. With SQLite there is none: each thread opens the file."""

from typing import Any

from django.db import connection

from core.net.places import Counters

# Kept open by processes that serve many, so that nobody waits for a connection to be made.
READY_CONNECTIONS = 10


def keep_ready() -> None:
    """Open connections before they are needed.

    To be called before any thread asks for one: those that it was given would come on top, beyond the limit too.
    """
    if pool := _pool():
        pool.open()
        pool.resize(min(READY_CONNECTIONS, pool.max_size), pool.max_size)


def leave_to_others() -> None:
    """Give this thread's connection back where none is left, before it waits for a thread that may need one."""
    pool = _pool()
    if pool is None or connection.connection is None or connection.in_atomic_block:
        return
    stats = pool.get_stats()
    if stats["pool_available"] == 0 and stats["pool_size"] >= pool.max_size:
        connection.close()


def close() -> None:
    """Close all connections of this process."""
    if _pool():
        connection.close_pool()  # type: ignore[attr-defined]  # of the backend for PostgreSQL


def limit() -> int | None:
    """How many connections there may be; None where there is no pool."""
    pool = _pool()
    return pool.max_size if pool else None


def counters() -> Counters:
    """What the pool did, and does. requests: how often a connection was taken."""
    pool = _pool()
    if pool is None:
        return Counters()
    stats = pool.get_stats()
    return Counters(
        requests=stats.get("requests_num", 0),
        connection_errors=stats.get("connections_errors", 0) + stats.get("connections_lost", 0),
        waits=stats.get("requests_queued", 0),
        in_use=stats["pool_size"] - stats["pool_available"],
        waiting=stats["requests_waiting"],
    )


def _pool() -> Any:
    """The pool of psycopg, or None."""
    return getattr(connection, "pool", None)
