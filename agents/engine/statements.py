"""The statements that every task runs, written by hand for both databases.

The ORM takes ten times as long to write each of them as the database takes to run it, and the engine runs a dozen for
every task. Statements that run now and then are left to the ORM.
"""

import functools
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import DateTimeField, Field, ForeignKey, JSONField, Model, UUIDField
from django.db.models.base import ModelState

from agents.engine.events import NewEvent
from agents.models import AgentTask, Node, TaskEvent
from core import database

# What is looked at, beside its key, to move a task. The other columns stay where they are, long texts among them.
_MOVING = (
    *("agent_id", "version_id", "kind", "model", "session_id", "owner_id", "team_id", "api_key_id"),
    *("status", "fence", "event_count", "attempts", "interruptions", "reserved_for", "avoided_node_id"),
    *("created_at", "granted_at", "started_at", "first_output_at", "reserved_tokens"),
)

# Says of a breaker b what CircuitBreaker.is_shut says.
_IS_SHUT = "(b.forced = 'open' OR (b.forced = 'none' AND b.state <> 'closed'))"

_WAITING = "id, model, priority, team_id, owner_id, created_at, run_after"

INSERT_ROWS = 100  # at a time; SQLite takes 32,766 values


class Change(NamedTuple):
    """Columns of a task that are to be written. status: the one that it was read with."""

    task: AgentTask
    status: str
    columns: dict[str, Any]


class KnownModel(NamedTuple):
    """A model that a node has. can_complete: false for models that only embed. is_shut: by the node's breaker."""

    name: str
    can_complete: bool
    is_builtin: bool
    is_shut: bool


class Place(NamedTuple):
    """A model on a node: where a task can be given a slot. `id` is the key of the NodeModel."""

    id: int
    model: str
    node_id: uuid.UUID
    node: str
    slots: int
    is_loaded: bool
    is_saturated: bool
    is_available: bool
    weight: float
    service_seconds: float | None
    max_loaded_models: int | None
    kept_until: datetime | None


class Load(NamedTuple):
    """How many tasks run at each place, by its key, and how many wait for each model."""

    running: dict[int, int]
    waiting: dict[str, int]


class Waiting(NamedTuple):
    """A task that waits. id: as the database spells it, which sorts like the key."""

    id: Any
    model: str
    priority: int
    team_id: uuid.UUID
    owner_id: uuid.UUID
    created_at: datetime
    run_after: datetime | None

    @property
    def key(self) -> uuid.UUID:
        return _uuid(self.id)

    @property
    def since(self) -> datetime:
        """Since when it could have been granted."""
        return self.run_after or self.created_at


class UnfinishedTasks(NamedTuple):
    """How many tasks wait or run that one key, one person and one team are counted for."""

    key_id: uuid.UUID | None
    user_id: uuid.UUID
    team_id: uuid.UUID
    tasks: int


def known_models() -> list[KnownModel]:
    """Read which models there are, the best first: those that are loaded."""
    rows = _rows(
        f"SELECT p.name, p.capabilities, n.kind, {_IS_SHUT} FROM agents_nodemodel p "  # noqa: S608 - no values
        "JOIN agents_node n ON n.id = p.node_id JOIN core_circuitbreaker b ON b.id = n.breaker_id "
        "WHERE p.is_available ORDER BY p.is_loaded DESC, p.name"
    )
    return [
        # Servers before capabilities were listed name none.
        KnownModel(
            name,
            can_complete=capabilities == "[]" or '"completion"' in capabilities,
            is_builtin=kind == Node.Kind.BUILTIN,
            is_shut=bool(is_shut),
        )
        for name, capabilities, kind, is_shut in rows
    ]


def lock_places(models: Collection[str], now: datetime) -> list[Place]:
    """Read and lock the places where these models could run now, in one order everywhere.

    None of a node whose breaker is shut: whether that node works is found out by a probe, not by somebody's task. Of
    nodes that hold few models at a time come all places, for what runs at one of them decides about the others.
    """
    return _places(models, now, _locking(" OF p"))


def read_places(models: Collection[str], now: datetime) -> list[Place]:
    """Read what `lock_places` reads, without locking anything."""
    return _places(models, now, "")


def _places(models: Collection[str], now: datetime, locking: str) -> list[Place]:
    rows = _rows(
        "SELECT p.id, p.name, n.id, n.name, n.slots, p.is_loaded, n.saturated_until > %s, "  # noqa: S608
        "p.is_available, n.weight, p.service_seconds, n.max_loaded_models, p.kept_until "
        "FROM agents_nodemodel p JOIN agents_node n ON n.id = p.node_id "
        "JOIN core_circuitbreaker b ON b.id = n.breaker_id "
        f"WHERE NOT n.is_draining AND NOT {_IS_SHUT} "
        f"AND p.id IN (SELECT id FROM agents_nodemodel WHERE name IN ({_marks(models)}) "
        "AND is_available UNION ALL SELECT other.id FROM agents_nodemodel one "
        "JOIN agents_node small ON small.id = one.node_id AND small.max_loaded_models IS NOT NULL "
        "JOIN agents_nodemodel other ON other.node_id = one.node_id "
        f"WHERE one.name IN ({_marks(models)})) ORDER BY p.id{locking}",
        [_stored("created_at", now), *models, *models],
    )
    return [_place(row) for row in rows]


def _place(row: Sequence[Any]) -> Place:
    key, model, node_id, node, slots, is_loaded, is_saturated, *others, kept_until = row
    read = key, model, _uuid(node_id), node, slots, bool(is_loaded), bool(is_saturated), *others, _moment(kept_until)
    return Place(*read)


def load(models: Collection[str], place_ids: Collection[int]) -> Load:
    """Count what runs and what waits. Whoever means to change it locks the places first."""
    found = Load({}, {})
    rows = _rows(
        "SELECT node_model_id, NULL, COUNT(*) FROM agents_agenttask "  # noqa: S608 - placeholders only
        f"WHERE status = 'running' AND node_model_id IN ({_marks(place_ids)}) GROUP BY node_model_id UNION ALL "
        "SELECT NULL, model, COUNT(*) FROM agents_agenttask "
        f"WHERE status = 'queued' AND model IN ({_marks(models)}) GROUP BY model",
        [*place_ids, *models],
    )
    for place_id, model, count in rows:
        if model is None:
            found.running[place_id] = count
        else:
            found.waiting[model] = count
    return found


def oldest_waiting(models: Collection[str], limit: int, now: datetime) -> list[Waiting]:
    """Read the tasks that wait for these models and are due: so many, the oldest, of each person in each class."""
    rows = _rows(
        f"SELECT {_WAITING} FROM (SELECT {_WAITING}, ROW_NUMBER() OVER ("  # noqa: S608 - placeholders only
        "PARTITION BY model, priority, team_id, owner_id ORDER BY id) AS number FROM agents_agenttask "
        f"WHERE status = 'queued' AND model IN ({_marks(models)}) "
        "AND (run_after IS NULL OR run_after <= %s) AND deadline_at > %s) AS mine WHERE number <= %s",
        [*models, _stored("run_after", now), _stored("deadline_at", now), limit],
    )
    return _waiting(rows)


def nobody_waits() -> bool:
    """Tell whether it is certain, until this transaction ends, that no task waits.

    On PostgreSQL it never is: somebody who found no slot free may be about to have one wait.
    """
    return database.vendor() == "sqlite" and not _rows(
        "SELECT 1 FROM agents_agenttask WHERE status = 'queued' LIMIT 1"
    )


def all_waiting(models: Collection[str], now: datetime) -> list[Waiting]:
    """Read all tasks that wait for these models, also those that do so for their next try."""
    rows = _rows(
        f"SELECT {_WAITING} FROM agents_agenttask "  # noqa: S608 - placeholders only
        f"WHERE status = 'queued' AND model IN ({_marks(models)}) AND deadline_at > %s",
        [*models, _stored("deadline_at", now)],
    )
    return _waiting(rows)


def _waiting(rows: Iterable[Any]) -> list[Waiting]:
    return [
        Waiting(key, model, priority, _uuid(team_id), _uuid(owner_id), _moment(created_at), _moment(run_after))
        for key, model, priority, team_id, owner_id, created_at, run_after in rows
    ]


def queue_shares(models: Collection[str]) -> list[tuple[str, str, str, float]]:
    """Read how far everybody got in the queues of these models: model, subject, within, passed."""
    rows = _rows(
        f"SELECT model, subject, within, passed FROM agents_queueshare WHERE model IN ({_marks(models)})",  # noqa: S608
        models,
    )
    return list(rows)


def write_queue_shares(rows: Collection[tuple[str, str, str, float]]) -> None:
    """Write how far these got: model, subject, within, passed. In one order everywhere, as they may be new."""
    if not rows:
        return
    _executed(
        "INSERT INTO agents_queueshare (model, subject, within, passed) "  # noqa: S608 - placeholders only
        f"VALUES {', '.join(['(%s, %s, %s, %s)'] * len(rows))} ON CONFLICT (model, subject) "
        "DO UPDATE SET within = excluded.within, passed = excluded.passed",
        [value for row in sorted(rows) for value in row],
    )


def unfinished_tasks() -> list[UnfinishedTasks]:
    """Count the tasks that wait or run, by whom they count for.

    All of them: asked for one person's, SQLite would walk through everything that the person ever submitted.
    """
    rows = _rows(
        "SELECT api_key_id, owner_id, team_id, COUNT(*) FROM agents_agenttask "
        "WHERE status IN ('queued', 'running', 'waiting_approval') GROUP BY api_key_id, owner_id, team_id"
    )
    return [
        UnfinishedTasks(_uuid(key_id) if key_id else None, _uuid(owner_id), _uuid(team_id), count)
        for key_id, owner_id, team_id, count in rows
    ]


def being_answered(request_keys: Collection[str]) -> dict[str, uuid.UUID]:
    """Find the unfinished tasks that answer these requests. Whoever adds one holds the places of its model."""
    if not request_keys:
        return {}
    rows = _rows(
        "SELECT request_key, id FROM agents_agenttask WHERE request_key <> '' "  # noqa: S608 - placeholders only
        f"AND status IN ('queued', 'running', 'waiting_approval') AND request_key IN ({_marks(request_keys)})",
        request_keys,
    )
    return {key: _uuid(task_id) for key, task_id in rows}


def lock_tasks(task_ids: Collection[uuid.UUID], *, skips_locked: bool = False) -> dict[uuid.UUID, AgentTask]:
    """Read and lock tasks without their long texts, in one order everywhere so that two never wait for each other.

    skips_locked: leave out those that others have locked.
    """
    if not task_ids:
        return {}
    keys = {_stored("id", task_id): task_id for task_id in task_ids}
    rows = _rows(
        f"SELECT id, {', '.join(_MOVING)} FROM agents_agenttask "  # noqa: S608 - placeholders only
        f"WHERE id IN ({_marks(task_ids)}) ORDER BY id{_locking(' SKIP LOCKED' if skips_locked else '')}",
        list(keys),
    )
    readers = _reading(AgentTask, _MOVING)
    return {keys[row[0]]: _light_task(keys[row[0]], _changed(row[1:], readers)) for row in rows}


def _light_task(key: uuid.UUID, values: Iterable[Any]) -> AgentTask:
    """A task as it stands in the database, other columns deferred; made without the signals that nobody hears."""
    task = AgentTask.__new__(AgentTask)
    task._state = ModelState()
    task._state.adding, task._state.db = False, DEFAULT_DB_ALIAS
    task.__dict__.update(zip(_MOVING, values, strict=True), id=key)
    return task


def running_task(task_id: uuid.UUID, fence: int) -> AgentTask | None:
    """Read a task whole, if the run of this fence owns it."""
    rows = AgentTask.objects.raw(
        "SELECT * FROM agents_agenttask WHERE id = %s AND fence = %s AND status = 'running'",
        [_stored("id", task_id), fence],
    )
    return next(iter(rows), None)


def take(task_ids: Collection[uuid.UUID], *, runner: str, now: datetime, lease_until: datetime) -> list[Any]:
    """Give granted tasks that nobody took to a runner; returns rows of id, fence and interruptions."""
    rows = _rows(
        "UPDATE agents_agenttask SET runner = %s, started_at = %s, lease_until = %s "  # noqa: S608 - placeholders only
        f"WHERE id IN ({_marks(task_ids)}) AND status = 'running' AND runner = '' RETURNING id, fence, interruptions",
        [
            runner,
            _stored("started_at", now),
            _stored("lease_until", lease_until),
            *(_stored("id", task_id) for task_id in sorted(task_ids)),
        ],
    )
    return [(_uuid(row[0]), row[1], row[2]) for row in rows]


def oldest_unclaimed(limit: int) -> list[uuid.UUID]:
    """Read and lock granted tasks that no runner has taken, the oldest first."""
    rows = _rows(
        "SELECT id FROM agents_agenttask WHERE status = 'running' AND runner = '' "  # noqa: S608 - no values
        f"ORDER BY id LIMIT %s{_locking(' SKIP LOCKED')}",
        [limit],
    )
    return [_uuid(row[0]) for row in rows]


def next_numbers(runs: Mapping[tuple[uuid.UUID, int], datetime]) -> dict[tuple[uuid.UUID, int], int]:
    """Raise the event counters of the tasks that these runs still own; returns the numbers drawn.

    runs: by task and fence, when the first piece of the answer came.
    """
    values = [
        part
        for (task_id, fence), spoke_at in sorted(runs.items())
        for part in (_stored("id", task_id), fence, _stored("first_output_at", spoke_at))
    ]
    rows = _rows(
        "WITH run (task_id, run_fence, spoke_at) AS (VALUES {rows}) "  # noqa: S608 - placeholders only
        "UPDATE agents_agenttask SET event_count = event_count + 1, "
        "first_output_at = COALESCE(first_output_at, run.spoke_at) FROM run "
        "WHERE id = run.task_id AND fence = run.run_fence AND status = 'running' "
        "RETURNING id, fence, event_count".format(rows=", ".join(["(%s, %s, %s)"] * len(runs))),
        values,
    )
    return {(_uuid(row[0]), row[1]): row[2] for row in rows}


def update(changes: Iterable[Change]) -> bool:
    """Write columns of tasks; tells whether all still had the status and the fence that they were read with."""
    writers = _writers(AgentTask)
    rows: dict[tuple[str, ...], list[list[Any]]] = defaultdict(list)
    for task, status, columns in changes:
        values = [
            writers[name](value) if name in writers and value is not None else value for name, value in columns.items()
        ]
        rows[tuple(columns)].append([*values, _stored("id", task.id), status, task.fence])
    return all(_update(columns, alike) == len(alike) for columns, alike in rows.items())


def _update(columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> int:
    """Update tasks that change in the same columns; returns how many did."""
    sql = (
        f"UPDATE agents_agenttask SET {', '.join(f'{name} = %s' for name in columns)} "  # noqa: S608 - names of ours
        "WHERE id = %s AND status = %s AND fence = %s"
    )
    if len(rows) == 1:
        return int(_executed(sql, rows[0]).rowcount)
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)
        return int(cursor.rowcount)


def touch_sessions(session_ids: Collection[uuid.UUID], now: datetime) -> None:
    """Note that conversations were active, locking them in one order everywhere."""
    if not session_ids:
        return
    _executed(
        "UPDATE agents_chatsession SET last_active_at = %s WHERE id IN ("  # noqa: S608 - placeholders only
        f"SELECT id FROM agents_chatsession WHERE id IN ({_marks(session_ids)}) ORDER BY id{_locking()})",
        [_stored("created_at", now), *(_stored("id", session_id) for session_id in session_ids)],
    )


def insert(rows: Sequence[Model]) -> None:
    """Insert rows of one model, whose keys and values are all set."""
    if rows:
        table = _table(type(rows[0]))
        _insert(table.name, table.columns, [_changed(table.values(row.__dict__), table.writers) for row in rows])


def insert_events(events: Sequence[NewEvent]) -> None:
    """Insert events."""
    if events:
        writers = _writing(TaskEvent, NewEvent._fields)
        _insert("agents_taskevent", NewEvent._fields, [_changed(item, writers) for item in events])


def _insert(table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    marks = f"({_marks(columns)})"
    names = ", ".join(columns)
    for start in range(0, len(rows), INSERT_ROWS):
        batch = rows[start : start + INSERT_ROWS]
        _executed(
            f"INSERT INTO {table} ({names}) VALUES {', '.join([marks] * len(batch))}",  # noqa: S608 - names of ours
            [value for row in batch for value in row],
        )


def _rows(sql: str, values: Iterable[Any] = ()) -> Sequence[Any]:
    rows: list[Any] = _executed(sql, list(values)).fetchall()
    return rows


def _executed(sql: str, values: Sequence[Any]) -> Any:
    """Run a statement; the cursor that ran it goes with its last reader."""
    cursor = connection.cursor()
    cursor.execute(sql, values)
    return cursor


def _marks(values: Collection[Any]) -> str:
    """Placeholders for the values of an IN; of none, something that equals nothing."""
    return ", ".join(["%s"] * len(values)) or "NULL"


@functools.cache
def _locking(how: str = "") -> str:
    """Lock the rows that are read. On SQLite whoever writes has the whole database, from the BEGIN on."""
    return f" FOR NO KEY UPDATE{how}" if connection.features.has_select_for_update else ""


# The forms in which a database gives and takes values. The fields' own ways there take ten steps for each.

_Change = Callable[[Any], Any]
_Changes = tuple[tuple[int, _Change], ...]  # of the values of a row that need one, by their places in it


class _Table(NamedTuple):
    """How rows of a model are inserted. values: picks what is stored out of a row's __dict__."""

    name: str
    columns: tuple[str, ...]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    writers: _Changes


@functools.cache
def _table(model: type[Model]) -> _Table:
    columns = tuple(str(field.column) for field in model._meta.local_concrete_fields)
    values = itemgetter(*(field.attname for field in model._meta.local_concrete_fields))
    return _Table(model._meta.db_table, columns, values, _writing(model, columns))


def _changed(values: Iterable[Any], changes: _Changes) -> list[Any]:
    """The values of a row in another form."""
    changed = list(values)
    for place, change in changes:
        if changed[place] is not None:
            changed[place] = change(changed[place])
    return changed


def _stored(column: str, value: Any) -> Any:
    """The form in which the database holds a task's column."""
    write = _writers(AgentTask).get(column)
    return value if write is None or value is None else write(value)


@functools.cache
def _writers(model: type[Model]) -> dict[str, _Change]:
    """What makes of values, by column, what a database takes, where that is something else."""
    found = ((str(field.column), _writer(field)) for field in model._meta.concrete_fields)
    return {column: write for column, write in found if write}


@functools.cache
def _writing(model: type[Model], columns: tuple[str, ...]) -> _Changes:
    """The same, for rows of these columns."""
    writers = _writers(model)
    return tuple((place, writers[name]) for place, name in enumerate(columns) if name in writers)


def _writer(field: "Field[Any, Any]") -> _Change | None:
    kind = field.target_field if isinstance(field, ForeignKey) else field
    if isinstance(kind, JSONField):
        if database.vendor() == "sqlite":
            return functools.partial(json.dumps, cls=kind.encoder)
        return lambda value: kind.get_db_prep_save(value, connection)
    if database.vendor() == "sqlite" and isinstance(kind, UUIDField):
        return _digits
    if database.vendor() == "sqlite" and isinstance(kind, DateTimeField):
        return _utc
    return None


def _digits(key: uuid.UUID) -> str:
    return f"{key.int:032x}"


@functools.lru_cache(maxsize=64)
def _utc(moment: datetime) -> str:
    """A moment as SQLite holds it. What a transaction writes carries the same one many times."""
    return str(moment.astimezone(UTC).replace(tzinfo=None))


@functools.cache
def _reading(model: type[Model], columns: tuple[str, ...]) -> _Changes:
    """What makes of a row of these columns, as a database gives it, what it should be."""
    fields = {str(field.column): field for field in model._meta.concrete_fields}
    found = ((place, _reader(fields[name])) for place, name in enumerate(columns))
    return tuple((place, read) for place, read in found if read)


def _reader(field: "Field[Any, Any]") -> _Change | None:
    kind = field.target_field if isinstance(field, ForeignKey) else field
    if database.vendor() == "sqlite" and isinstance(kind, UUIDField):
        return _uuid
    if database.vendor() == "sqlite" and isinstance(kind, DateTimeField):
        return _moment
    return None


@functools.lru_cache(maxsize=4096)
def _uuid(value: Any) -> uuid.UUID:
    """Read a key: PostgreSQL gives UUIDs, SQLite their digits. The same ones come again and again."""
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _moment(value: Any) -> Any:
    """Read a moment or nothing: PostgreSQL gives moments with their zone, SQLite those of UTC without, or as text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
