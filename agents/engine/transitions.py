"""Every change of a task's state. Each happens within the caller's transaction, on rows that it has locked.

A change is an update that names the state and the fence it starts from, and it writes the event that tells of it.
`announced_at` is emptied by a grant and filled by the announcement, so that a crash between the two loses no wake-up.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F

from agents.engine import charges, hints, statements
from agents.engine.events import NewEvent, event
from agents.engine.receipt import receipt
from agents.engine.statements import Change, Place
from agents.models import AgentTask, TaskEvent
from agents.ollama.types import JsonObject

Status = AgentTask.Status


class Move(NamedTuple):
    """A change of a task's state, and the events that tell of it; it happens when it is written."""

    change: Change
    news: list[NewEvent]


def lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.LEASE_SECONDS)


def is_held(task: AgentTask | None, fence: int) -> bool:
    """Tell whether the run that this fence was given to still owns the task."""
    return task is not None and task.status == Status.RUNNING and task.fence == fence


def start(tasks: Sequence[AgentTask], place: Place, now: datetime, *, runner: str = "") -> None:
    """QUEUED -> RUNNING: give tasks a slot at a place, under a new fence.

    runner: the process that runs them at once; empty: the first runner that asks takes them.
    """
    AgentTask.objects.filter(pk__in=[task.id for task in tasks], status=Status.QUEUED).update(
        status=Status.RUNNING,
        fence=F("fence") + 1,
        event_count=F("event_count") + 1,
        node_id=place.node_id,
        node_model_id=place.id,
        runner=runner,
        lease_until=lease_end(now),
        granted_at=now,
        started_at=now if runner else None,
        announced_at=now if runner else None,
        first_output_at=None,
        run_after=None,
    )
    for task in tasks:
        task.status, task.fence = Status.RUNNING, task.fence + 1
    record([_start_event(task, place, now) for task in tasks])
    if not runner:
        _after_commit(hints.granted, tasks)


def start_unsaved(task: AgentTask, place: Place, now: datetime) -> NewEvent:
    """Have a task begin its life RUNNING, as `start` would leave it; the caller saves it and this event.

    One that is reserved for a process, the one that submits it, is that process's to run.
    """
    task.status, task.fence = Status.RUNNING, 1
    task.node_id, task.node_model_id = place.node_id, place.id
    task.lease_until, task.granted_at = lease_end(now), now
    if task.reserved_for:
        task.runner, task.started_at, task.announced_at = task.reserved_for, now, now
    else:
        _after_commit(hints.granted, [task])
    return _start_event(task, place, now)


def _start_event(task: AgentTask, place: Place, now: datetime) -> NewEvent:
    data = {"status": Status.RUNNING, "node": place.node, "model": place.model, "run": task.fence}
    return event(task, TaskEvent.Type.STATE, data, now)


def send_back(
    task: AgentTask,
    now: datetime,
    *,
    reason: str,
    run_after: datetime | None = None,
    counts: str | None = None,
    avoids: uuid.UUID | None = None,
    keeps_reservation: bool = False,
) -> Move:
    """RUNNING -> QUEUED: the task starts over; the answer so far is void.

    counts: the counter to raise, "attempts" after an error, "interruptions" after the death of a runner, or None.
    avoids: a node that it should not go to again. keeps_reservation: whether the process that ran it waits for it.
    """
    changes: dict[str, Any] = {counts: getattr(task, counts) + 1} if counts else {}
    if avoids is not None:
        changes["avoided_node_id"] = avoids
    if task.reserved_for and not keeps_reservation:
        changes["reserved_for"] = ""
    return _move(
        task,
        now,
        Status.QUEUED,
        [(TaskEvent.Type.STATE, {"status": Status.QUEUED, "reset": True, "reason": reason})],
        runner="",
        lease_until=None,
        run_after=run_after,
        granted_at=None,
        started_at=None,
        first_output_at=None,
        node_model_id=None,
        **changes,
    )


def end(
    task: AgentTask,
    now: datetime,
    status: "AgentTask.Status",
    *,
    error_code: str = "",
    error_detail: str = "",
    tail: JsonObject | None = None,
    spoke_at: datetime | None = None,
    run: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Move:
    """Finish a task. A finished task never moves again.

    tail: the last piece of the run's answer. spoke_at: when the first came. run: what that run knows, for the receipt.
    fields: more columns to write, such as the result.
    """
    news: list[tuple[TaskEvent.Type, dict[str, Any]]] = []
    if task.reserved_tokens is not None:  # the caller settles it
        task.charged_tokens = fields["charged_tokens"] = charges.used_tokens(task, fields, tail=tail or {})
    if tail:
        news.append((TaskEvent.Type.DELTA, tail))
        task.first_output_at = task.first_output_at or spoke_at or now
        fields["first_output_at"] = task.first_output_at
    if status == Status.SUCCEEDED:
        news.append((TaskEvent.Type.DONE, _done(fields)))
    else:
        task.error_code = error_code  # the caller tells of it
        news.append((TaskEvent.Type.ERROR, {"status": status, "code": error_code, "detail": error_detail}))
    return _move(
        task,
        now,
        status,
        news,
        finished_at=now,
        runner="",
        lease_until=None,
        error_code=error_code,
        error_detail=error_detail,
        receipt=receipt(task, now, dict(run or {})),
        **fields,
    )


def end_unsaved(
    task: AgentTask, now: datetime, piece: JsonObject, fields: Mapping[str, Any], run: Mapping[str, Any]
) -> list[NewEvent]:
    """Have a task be born with its answer, as `end` would leave it; the caller saves it and these events."""
    task.status, task.finished_at, task.reserved_for = Status.SUCCEEDED, now, ""
    for name, value in fields.items():
        setattr(task, name, value)
    task.receipt = receipt(task, now, {**run, "cached": True})
    news = [event(task, TaskEvent.Type.DELTA, piece, now)] if piece else []
    return [*news, event(task, TaskEvent.Type.DONE, _done(fields), now)]


def _done(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": Status.SUCCEEDED,
        "truncated": fields.get("is_truncated", False),
        "degraded": fields.get("is_degraded", False),
        "prompt_tokens": fields.get("prompt_tokens"),
        "output_tokens": fields.get("output_tokens"),
    }


def _move(
    task: AgentTask,
    now: datetime,
    status: "AgentTask.Status",
    news: Sequence[tuple[TaskEvent.Type, dict[str, Any]]],
    **fields: Any,
) -> Move:
    events = [event(task, type_, data, now) for type_, data in news]
    columns = {"status": status, "event_count": task.event_count, **fields}
    move = Move(Change(task, task.status, columns), events)
    task.status = status
    return move


def write(moves: Sequence[Move]) -> None:
    """Write changes of states down, and tell of them once they are committed."""
    if not moves:
        return
    changes = [move.change for move in moves]
    if not statements.update(changes):
        raise AssertionError("A task moved under its lock.")
    record([item for move in moves for item in move.news])
    transaction.on_commit(lambda: hints.moved(changes), robust=True)


def record(news: Sequence[NewEvent]) -> None:
    """Write events down, and tell followers once they are committed."""
    if not news:
        return
    statements.insert_events(news)
    ids = [item.task_id for item in news]
    transaction.on_commit(lambda: hints.changed(ids), robust=True)


def _after_commit(hint: hints.Listener, tasks: Sequence[AgentTask]) -> None:
    ids = [task.id for task in tasks]
    transaction.on_commit(lambda: hint(ids), robust=True)
