"""Whether the database fits together inside, looked for while everybody uses it.

SQLite: every page, every index entry against its row, constraints and references.

PostgreSQL: rows that refer to nothing, constraints and indexes that it does not hold for valid, and pages whose
checksum was wrong when somebody read them. With the extension amcheck, where we may use it, the inside of every B-tree
index, and whether each row stands in it. Without it, a damaged index that PostgreSQL itself has not noticed is not
found, nor, where the cluster was made without checksums, a page that the disk changed.
"""

from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError, connection

from core.ops.backup import databases

FLAWS_TOLD = 5


def flaws() -> list[str]:
    """Look for what is wrong; the first few."""
    if connection.vendor == "sqlite":
        return databases.ours().flaws(connection)
    found = [*_not_valid(), *_checksum_failures(), *_broken_references()]
    if _has_amcheck():
        found += _broken_indexes()
    return found[:FLAWS_TOLD]


def what() -> str:
    """Name what is looked at."""
    if connection.vendor == "sqlite":
        return "pages, indexes, constraints and references"
    if _has_amcheck():
        return "references, constraints, checksums, and every index with amcheck"
    return "references, constraints and checksums (not the inside of indexes: the extension amcheck is not there)"


def _ask(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _has_amcheck() -> bool:
    """Tell whether the extension is there, and its functions are for us."""
    return bool(
        _ask(
            "SELECT 1 FROM pg_proc WHERE proname = 'bt_index_check' AND pronargs = 2"
            " AND has_function_privilege(oid, 'EXECUTE')"
        )
    )


def _not_valid() -> Iterator[str]:
    for (name,) in _ask(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = current_schema()::regnamespace"
    ):
        yield f"the index {name} is not valid: REINDEX it"
    for name, table in _ask(
        "SELECT conname, conrelid::regclass::text FROM pg_constraint"
        " WHERE NOT convalidated AND connamespace = current_schema()::regnamespace"
    ):
        yield f"the constraint {name} of {table} was never checked"


def _checksum_failures() -> Iterator[str]:
    """Pages of this database that did not hold when they were read; empty where the cluster has no checksums."""
    for count, at in _ask(
        "SELECT checksum_failures, checksum_last_failure::date FROM pg_stat_database"
        " WHERE datname = current_database() AND checksum_failures > 0"
    ):
        yield f"{count} pages had a wrong checksum, the last one on {at}"


def _broken_references() -> Iterator[str]:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for table in sorted(connection.introspection.table_names(cursor)):
            for column, reference in connection.introspection.get_relations(cursor, table).items():
                key, parent = reference[:2]
                cursor.execute(
                    f"SELECT count(*) FROM {quote(table)} child WHERE {quote(column)} IS NOT NULL AND NOT EXISTS"  # noqa: S608
                    f" (SELECT FROM {quote(parent)} parent WHERE parent.{quote(key)} = child.{quote(column)})"
                )
                if count := cursor.fetchone()[0]:
                    yield f"{count} rows of {table} refer by {column} to a {parent} that is not there"


def _broken_indexes() -> Iterator[str]:
    """Have amcheck read every B-tree index, and look for each row of its table in it."""
    indexes = _ask(
        "SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence <> 't'"
        " AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname"
    )
    for oid, name in indexes:
        try:
            _ask(f"SELECT bt_index_check({int(oid)}::oid::regclass, true)")
        except DatabaseError as error:
            yield f"the index {name}: {str(error).strip().splitlines()[0]}"
