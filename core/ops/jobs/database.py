"""Keeping the database small and its query plans right, and seeing whether it holds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.formats import size
from core.ops import integrity, maintenance, metrics
from core.ops.jobs import verdicts

CHECK = "check_database"

# Nobody can write while SQLite rewrites its file. A small file takes less than a second; a large one must be worth it.
ALWAYS_BELOW_BYTES = 64 * 2**20
WORTHWHILE_FREE_PERCENT = 10
# What stays free of a large file, for the rows to come: to take pages from the end costs less than to move them there.
STAYS_FREE_PERCENT = 2
# Others write between two steps; one takes milliseconds.
STEP_PAGES = 256
# As PRAGMA auto_vacuum tells it: free pages can be given back one by one.
INCREMENTAL = 2
NOTHING_FREE = "There is nothing to give back."
# Rows that ANALYZE looks at for each index, as SQLite recommends for large files. https://sqlite.org/lang_analyze.html
SQLITE_ANALYSIS_LIMIT = 1000
# PostgreSQL vacuums beside readers and writers, so a table may take longer than any query of ours.
POSTGRESQL_STATEMENT_TIMEOUT = "20min"
# What autovacuum did within this time need not be done again.
JUST_DONE = "1 hour"
TABLES_NAMED = 3


def _is_sqlite() -> bool:
    return connection.vendor == "sqlite"


def _figures() -> Mapping[str, int]:
    return _sqlite_figures() if _is_sqlite() else _postgresql_figures()


def _would_vacuum() -> str:
    if _is_sqlite():
        return _sqlite_plan("It would vacuum the file and analyse its tables.", "It would analyse the tables only:")
    return _told("It would vacuum and analyse", _postgresql_plan())


@maintenance.job(
    "vacuum_database", "Vacuum and analyse the database", figures=_figures, preview=_would_vacuum, is_long=True
)
def vacuum_database() -> str:
    if connection.in_atomic_block:
        raise RuntimeError("VACUUM does not work inside a transaction.")
    return _vacuum_sqlite() if _is_sqlite() else _vacuum_postgresql()


def _would_free() -> str:
    if not _can_free():
        return _why_not()
    spare = _spare_pages() * _pragma("page_size")
    return f"It would give back {size(spare)}." if spare else NOTHING_FREE


@maintenance.job(
    "free_database_pages",
    "Give back what is free within the database's file",
    figures=_figures,
    preview=_would_free,
    is_long=True,
)
def free_database_pages() -> str:
    if not _can_free():
        return _why_not()
    before = _pragma("page_count")
    while spare := _spare_pages():
        _ask(f"PRAGMA incremental_vacuum({min(spare, STEP_PAGES)})")
    freed = (before - _pragma("page_count")) * _pragma("page_size")
    return f"Gave back {size(freed)}." if freed else NOTHING_FREE


def _ask(statement: str) -> list[tuple[Any, ...]]:
    """Run a statement to its end, which PRAGMA incremental_vacuum needs though it has no rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description or _is_sqlite() else []


# SQLite ------------------------------------------------------------------------------------------------------------


def _pragma(name: str) -> int:
    return int(_ask(f"PRAGMA {name}")[0][0])


def _sqlite_figures() -> dict[str, int]:
    page_bytes = _pragma("page_size")
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    return {
        "file_bytes": page_bytes * _pragma("page_count"),
        "free_bytes": page_bytes * _pragma("freelist_count"),
        "log_bytes": log.stat().st_size if log.exists() else 0,
    }


def _is_worthwhile() -> bool:
    figures = _sqlite_figures()
    return (
        figures["file_bytes"] < ALWAYS_BELOW_BYTES
        or figures["free_bytes"] * 100 >= figures["file_bytes"] * WORTHWHILE_FREE_PERCENT
    )


def _sqlite_plan(vacuum: str, analyse: str) -> str:
    return vacuum if _is_worthwhile() else f"{analyse} under {WORTHWHILE_FREE_PERCENT} % are free to vacuum."


def _vacuum_sqlite() -> str:
    plan = _sqlite_plan("Vacuumed and analysed.", "Analysed;")
    if _is_worthwhile():
        _ask("PRAGMA auto_vacuum=INCREMENTAL")  # a file that was made without becomes such a one
        _ask("VACUUM")
    _ask(f"PRAGMA analysis_limit={SQLITE_ANALYSIS_LIMIT}")
    _ask("ANALYZE")
    is_blocked, *_ = _ask("PRAGMA wal_checkpoint(TRUNCATE)")[0]
    return f"{plan} Readers kept the log from being emptied." if is_blocked else plan


def _can_free() -> bool:
    return _is_sqlite() and _pragma("auto_vacuum") == INCREMENTAL


def _why_not() -> str:
    if _is_sqlite():
        return "The file cannot give back single pages yet; the next vacuum_database that vacuums it makes it so."
    return "PostgreSQL does that by itself when it vacuums."


def _spare_pages() -> int:
    return max(0, _pragma("freelist_count") - _pragma("page_count") * STAYS_FREE_PERCENT // 100)


# PostgreSQL --------------------------------------------------------------------------------------------------------


def _postgresql_figures() -> dict[str, int]:
    """Figures of the whole database, and the dead rows of each table that has any (as counted by PostgreSQL)."""
    dead = {
        f"dead_rows:{table}": int(count)
        for table, count in _ask("SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE n_dead_tup > 0")
    }
    whole = int(_ask("SELECT pg_database_size(current_database())")[0][0])
    return {"database_bytes": whole, "dead_rows": sum(dead.values()), **dict(sorted(dead.items()))}


def _postgresql_plan() -> dict[str, str]:
    """What is to be done with each table: nothing where autovacuum has just done it all."""
    just = f"> now() - interval '{JUST_DONE}'"
    done = {
        table: (vacuumed, analysed)
        for table, vacuumed, analysed in _ask(
            f"SELECT relname, last_autovacuum {just}, last_autoanalyze {just} FROM pg_stat_user_tables"  # noqa: S608
        )
    }
    plan = {}
    for table in sorted(connection.introspection.table_names()):
        vacuumed, analysed = done.get(table, (None, None))
        # A table that somebody locks is left for the next time.
        statement = "ANALYZE (SKIP_LOCKED)" if vacuumed else "VACUUM (ANALYZE, SKIP_LOCKED)"
        plan[table] = "" if vacuumed and analysed else statement
    return plan


def _vacuum_postgresql() -> str:
    plan = _postgresql_plan()
    with _patience():
        for table, statement in plan.items():
            if statement:
                _ask(f"{statement} {connection.ops.quote_name(table)}")
        # Counts of dead rows reach the statistics a moment later otherwise.
        _ask("SELECT pg_stat_force_next_flush()")
    return _told("Vacuumed and analysed", plan)


def _told(verb: str, plan: Mapping[str, str]) -> str:
    """Say what was done, or would be."""
    whole = sum(statement.startswith("VACUUM") for statement in plan.values())
    parts = [f"{verb} {whole} tables."]
    for done, statement in ("vacuumed", "ANALYZE (SKIP_LOCKED)"), ("vacuumed and analysed", ""):
        if tables := [table for table, planned in plan.items() if planned == statement]:
            more = f" and {len(tables) - TABLES_NAMED} others" if len(tables) > TABLES_NAMED else ""
            parts.append(f"Autovacuum had just {done} {', '.join(tables[:TABLES_NAMED])}{more}.")
    return " ".join(parts)


@contextmanager
def _patience() -> Iterator[None]:
    """Let this session's statements take longer; the pool lends the connection to others afterwards."""
    _ask(f"SET statement_timeout = '{POSTGRESQL_STATEMENT_TIMEOUT}'")
    try:
        yield
    finally:
        _ask("RESET statement_timeout")


# Both --------------------------------------------------------------------------------------------------------------


class DatabaseDamagedError(RuntimeError):
    """Something in the database does not fit together. Stop, keep a copy of it as it is, and restore a backup."""


verdicts.register(CHECK, DatabaseDamagedError)


@maintenance.job(
    CHECK,
    "Check the database for damage",
    figures=_figures,
    preview=lambda: f"It would check {integrity.what()}.",
    is_long=True,
)
def check_database() -> str:
    if _is_sqlite():
        flaws = integrity.flaws()
    else:
        with _patience():
            flaws = integrity.flaws()
    if flaws:
        raise DatabaseDamagedError("; ".join(flaws))
    return f"Nothing is wrong with {integrity.what()}."


@metrics.register
def verdict_metrics() -> Iterator[Metric]:
    """Say nothing before the first check."""
    verdict = GaugeMetricFamily("sutazai_database_intact", "1: the last check of the database found no damage.")
    if (is_intact := verdicts.last(CHECK)) is not None:
        verdict.add_metric([], is_intact)
    yield verdict
