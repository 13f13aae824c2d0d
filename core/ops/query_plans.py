"""How the database would run a statement whose values nobody knows, and which index it seems to lack."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction

from core.ops.sql_text import CUT, PLACE

# Below this, reading a whole table is as fast as an index.
WORTH_AN_INDEX_ROWS = 1000
MOST_COLUMNS = 3

_EXPLAINABLE = re.compile(r"\A\(*\s*(select|with|insert|update|delete)\b", re.IGNORECASE)
# "SCAN t", "SCAN t USING INDEX …" (all of it, in the index's order), "SEARCH t USING AUTOMATIC COVERING INDEX (a=?)"
_SQLITE_SCAN = re.compile(r"\bSCAN (\w+)|\bSEARCH (\w+) USING AUTOMATIC ")
# "Seq Scan on t u", "Index Scan using i on t": the latter reads all of it unless "Index Cond: …" follows.
_POSTGRESQL_SCAN = re.compile(r"\b(?:Seq Scan|Index(?: Only)? Scan(?: Backward)? using \w+) on (\w+)(?: (\w+))?  ?\(")
_CONDITION = "Index Cond:"
_ALIASES = re.compile(r'"(\w+)" (?:AS )?"?(\w+)"?(?= |$|\))', re.IGNORECASE)
_COMPARED = re.compile(r'"(\w+)"\."(\w+)"(?:::\w+)? (=|IN|IS NULL|<=|>=|<|>|BETWEEN)(?!\w)', re.IGNORECASE)
_EQUAL = {"=", "IN", "IS NULL"}


class NoPlan(Exception):
    """There is no plan to show; the text says why."""


@dataclass(frozen=True)
class MissingIndex:
    """A table that is read whole, and the columns by which rows are chosen; no index begins with them."""

    table: str
    columns: tuple[str, ...]
    rows: int

    @property
    def statement(self) -> str:
        quote = connection.ops.quote_name
        how = "CREATE INDEX CONCURRENTLY" if connection.vendor == "postgresql" else "CREATE INDEX"
        name = "_".join(("slow", self.table, *self.columns))[:60]
        return f"{how} {quote(name)} ON {quote(self.table)} ({', '.join(map(quote, self.columns))})"


@dataclass(frozen=True)
class Plan:
    lines: Sequence[str]
    missing: Sequence[MissingIndex]


def plan(text: str) -> Plan:
    """Ask the database how it would run a normalised statement; it is not run. Raises NoPlan."""
    if not _EXPLAINABLE.match(text):
        raise NoPlan("Only statements that read or change rows have a plan.")
    if text.endswith(CUT):
        raise NoPlan("The statement is too long to be kept whole.")
    try:
        lines = _of_sqlite(text) if connection.vendor == "sqlite" else _of_postgresql(text)
    except DatabaseError as error:
        raise NoPlan(f"The database makes no plan without the values: {str(error).splitlines()[0]}") from error
    return Plan(lines, list(_missing(text, lines)))


def _of_sqlite(text: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {text}", [None] * text.count(PLACE))
        depths: dict[int, int] = {}
        lines = []
        for step, parent, _, what in cursor.fetchall():
            depths[step] = depths.get(parent, -1) + 1
            lines.append("  " * depths[step] + what)
    return lines


def _of_postgresql(text: str) -> list[str]:
    """Plan it as a prepared statement, which PostgreSQL can do without values. Nothing of it outlives this."""
    count = text.count(PLACE)
    numbers = iter(range(1, count + 1))
    prepared = re.sub("%s|%%", lambda found: f"${next(numbers)}" if found[0] == PLACE else "%", text)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE sutazai_plan AS {prepared}")
        try:
            cursor.execute(f"EXPLAIN EXECUTE sutazai_plan{values}")
            return [line for (line,) in cursor.fetchall()]
        finally:
            cursor.execute("DEALLOCATE sutazai_plan")


def _missing(text: str, lines: Sequence[str]) -> Iterator[MissingIndex]:
    """Suggest an index for each table that is read whole although the statement chooses rows by its columns."""
    tables = set(connection.introspection.table_names())
    aliases = {alias: table for table, alias in _ALIASES.findall(text) if table in tables}
    for name in dict.fromkeys(_read_whole(lines)):
        table = aliases.get(name, name)
        columns = _chosen_by(text, name)
        if table not in tables or not columns or not _lacks_index(table, columns):
            continue
        if (rows := _rows(table)) >= WORTH_AN_INDEX_ROWS:
            yield MissingIndex(table, columns, rows)


def _read_whole(lines: Sequence[str]) -> Iterator[str]:
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if found := _SQLITE_SCAN.search(line):
            yield found[1] or found[2]
        elif (found := _POSTGRESQL_SCAN.search(line)) and _CONDITION not in below:
            yield found[2] or found[1]


def _chosen_by(text: str, name: str) -> tuple[str, ...]:
    """The columns that a statement compares: those that must be equal, and then one of which it takes a range."""
    compared = [(column, how.upper()) for of, column, how in _COMPARED.findall(text) if of == name]
    equal = [column for column, how in compared if how in _EQUAL]
    ranged = [column for column, how in compared if how not in _EQUAL]
    return tuple(dict.fromkeys([*equal, *ranged[:1]]))[:MOST_COLUMNS]


def _lacks_index(table: str, columns: Sequence[str]) -> bool:
    """Whether all these columns are the table's, and none of its indexes begins with them in any order."""
    with connection.cursor() as cursor:
        known = {column.name for column in connection.introspection.get_table_description(cursor, table)}
        constraints = connection.introspection.get_constraints(cursor, table).values()
    indexes = [found for found in constraints if found["index"] or found["unique"] or found["primary_key"]]
    begin_with_them = any(set(index["columns"][: len(columns)]) == set(columns) for index in indexes)
    return known.issuperset(columns) and not begin_with_them


def _rows(table: str) -> int:
    """About how many rows a table has, without counting them."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            name = connection.ops.quote_name(table)  # one that the database itself has told
            cursor.execute(f"SELECT max(rowid) FROM {name}")  # noqa: S608
        else:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [table])
        found = cursor.fetchone()
    return int(found[0] or 0) if found else 0
