"""Keeping the database small and its query plans right."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

from core.ops import maintenance

# Nobody can write while SQLite rewrites its file. A small file takes less than a second; a large one must be worth it.
ALWAYS_BELOW_BYTES = 64 * 2**20
WORTHWHILE_FREE_PERCENT = 10
# Rows that ANALYZE looks at for each index, as SQLite recommends for large files. https://sqlite.org/lang_analyze.html
SQLITE_ANALYSIS_LIMIT = 1000
# PostgreSQL vacuums beside readers and writers, so a table may take longer than any query of ours.
POSTGRESQL_STATEMENT_TIMEOUT = "20min"


def _figures() -> Mapping[str, int]:
    return _sqlite_figures() if connection.vendor == "sqlite" else _postgresql_figures()


@maintenance.job("vacuum_database", "Vacuum and analyse the database", figures=_figures)
def vacuum_database() -> str:
    if connection.in_atomic_block:
        raise RuntimeError("VACUUM does not work inside a transaction.")
    return _vacuum_sqlite() if connection.vendor == "sqlite" else _vacuum_postgresql()


def _ask(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


# SQLite ------------------------------------------------------------------------------------------------------------


def _sqlite_figures() -> dict[str, int]:
    page_bytes, pages, free_pages = (
        int(_ask(f"PRAGMA {name}")[0][0]) for name in ("page_size", "page_count", "freelist_count")
    )
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    return {
        "file_bytes": page_bytes * pages,
        "free_bytes": page_bytes * free_pages,
        "log_bytes": log.stat().st_size if log.exists() else 0,
    }


def _vacuum_sqlite() -> str:
    figures = _sqlite_figures()
    is_worthwhile = figures["free_bytes"] * 100 >= figures["file_bytes"] * WORTHWHILE_FREE_PERCENT
    vacuums = is_worthwhile or figures["file_bytes"] < ALWAYS_BELOW_BYTES
    if vacuums:
        _ask("VACUUM")
    _ask(f"PRAGMA analysis_limit={SQLITE_ANALYSIS_LIMIT}")
    _ask("ANALYZE")
    is_blocked, *_ = _ask("PRAGMA wal_checkpoint(TRUNCATE)")[0]
    parts = [
        "Vacuumed and analysed." if vacuums else f"Analysed; under {WORTHWHILE_FREE_PERCENT} % were free to vacuum.",
        "Readers kept the log from being emptied." if is_blocked else "",
    ]
    return " ".join(filter(None, parts))


# PostgreSQL --------------------------------------------------------------------------------------------------------


def _postgresql_figures() -> dict[str, int]:
    """Figures of the whole database, and the dead rows of each table that has any (as counted by PostgreSQL)."""
    dead = {
        f"dead_rows:{table}": int(count)
        for table, count in _ask("SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE n_dead_tup > 0")
    }
    size = int(_ask("SELECT pg_database_size(current_database())")[0][0])
    return {"database_bytes": size, "dead_rows": sum(dead.values()), **dict(sorted(dead.items()))}


def _vacuum_postgresql() -> str:
    tables = sorted(connection.introspection.table_names())
    with _patience():
        for table in tables:
            # A table that somebody locks is left for the next time.
            _ask(f"VACUUM (ANALYZE, SKIP_LOCKED) {connection.ops.quote_name(table)}")
        # Counts of dead rows reach the statistics a moment later otherwise.
        _ask("SELECT pg_stat_force_next_flush()")
    return f"Vacuumed and analysed {len(tables)} tables."


@contextmanager
def _patience() -> Iterator[None]:
    """Let this session's statements take longer; the pool lends the connection to others afterwards."""
    _ask(f"SET statement_timeout = '{POSTGRESQL_STATEMENT_TIMEOUT}'")
    try:
        yield
    finally:
        _ask("RESET statement_timeout")
