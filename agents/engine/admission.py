"""How tasks come in: written down with what belongs to them, granted where a slot is free, or refused.

Operations of the writer, as those in `operations`, whose rules hold here too.
"""

import copy
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction

from agents.engine import charges, remembered, statements, transitions
from agents.engine.errors import QueueFull
from agents.engine.events import NewEvent, event
from agents.engine.grant import Slots, fill
from agents.models import AgentTask, ChatMessage, ChatSession, TaskEvent
from agents.ollama.types import JsonObject
from core import idempotency
from core.access.limits.budgets import Book, Charge
from core.access.limits.refusals import TooManyTasks
from core.exceptions import Refused

Status = AgentTask.Status


@dataclass(frozen=True)
class Submission:
    """A task to write down, not saved yet, with what belongs to it.

    parts: further tasks that answer the same call, accepted with the first or not at all, and charged with it.
    may_share: whether an equal task that is being answered will do as well.
    """

    task: AgentTask
    new_session: ChatSession | None
    message: ChatMessage | None
    idempotency_key: idempotency.IdempotencyKey | None
    charge: Charge | None = None
    parts: tuple[AgentTask, ...] = ()
    may_share: bool = True
    tries: list[datetime] = field(default_factory=list)


class Submitted(NamedTuple):
    """is_replay: an earlier request made the task. shares: an equal request is being answered by it, and takes part.

    granted: the task as it was written, and its place, where the process that it is reserved for runs it at once.
    parts: the same of the call's further tasks.
    """

    task_id: uuid.UUID
    is_replay: bool = False
    shares: bool = False
    granted: AgentTask | None = None
    parts: "tuple[Submitted, ...]" = ()

    @classmethod
    def of(cls, tasks: Sequence[AgentTask]) -> "Submitted":
        """Tell of a call's tasks as they were written."""
        first, *others = [cls(task.id, granted=task if task.runner else None) for task in tasks]
        return first._replace(parts=tuple(others)) if others else first


def submit(submissions: Sequence[Submission], now: datetime) -> list[Submitted | Exception]:
    """Write tasks down with their idempotency records and first events, and grant what can be granted.

    A task that finds nobody waiting and a slot free is granted at birth, which saves writing it twice.
    """
    charged = [submission.charge for submission in submissions if submission.charge]
    book = Book(charged, now, charges.count_unfinished)
    slots = Slots({submission.task.model for submission in submissions}, now)
    waiting = dict(slots.waiting)
    answers: list[Submitted | Exception] = []
    accepted: list[Submission] = []
    tasks: list[AgentTask] = []
    news: list[NewEvent] = []
    written = _written_before(submissions, now)
    leaders = statements.being_answered({submission.task.request_key for submission in submissions} - {""})
    for submission in submissions:
        if submission.task.id in written:
            answers.append(Submitted.of([submission.task, *submission.parts]))
            continue
        if submission.may_share and (leader := leaders.get(submission.task.request_key)):
            answers.append(Submitted(leader, shares=True))
            continue
        task = copy.copy(submission.task)
        try:
            first = _admit(submission, task, slots, waiting, book=book, now=now)
        except Refused as refusal:
            answers.append(refusal)
            continue
        if first != task.id:
            answers.append(Submitted(first, is_replay=True))
            continue
        accepted.append(submission)
        born = _shared_out(task, submission.parts)
        tasks += born
        for one in born:
            news += _begin(one, slots, waiting, now)
        answers.append(Submitted.of(born))
        if task.request_key:
            leaders[task.request_key] = task.id
    _insert(accepted, tasks, news, now)
    book.write()
    slots.look_again()
    fill(slots, now)
    return answers


def _shared_out(task: AgentTask, parts: Sequence[AgentTask]) -> list[AgentTask]:
    """Spread what was reserved for a call over its tasks, each of which is settled by itself."""
    born = [task, *map(copy.copy, parts)]
    if task.reserved_tokens is not None:
        share, rest = divmod(task.reserved_tokens, len(born))
        for number, one in enumerate(born):
            one.reserved_tokens = share + (rest if number == 0 else 0)
    return born


def _begin(task: AgentTask, slots: Slots, waiting: dict[str, int], now: datetime) -> list[NewEvent]:
    """Have a task begin its life waiting, or running where nobody waits and a slot is free."""
    news = [_first_event(task, now)]
    place = None if waiting.get(task.model) else slots.occupy(task.model)
    if place is None:
        waiting[task.model] = waiting.get(task.model, 0) + 1
        return news
    news.append(transitions.start_unsaved(task, place, now))
    if task.runner:
        task.node_model = remembered.place(place.id)
    return news


def _written_before(submissions: Sequence[Submission], now: datetime) -> set[uuid.UUID]:
    """Find tasks that an earlier try has written, although its answer was lost."""
    again = [submission.task.pk for submission in submissions if submission.tries]
    for submission in submissions:
        submission.tries.append(now)
    return set(AgentTask.objects.filter(pk__in=again).values_list("pk", flat=True)) if again else set()


def _admit(
    submission: Submission, task: AgentTask, slots: Slots, waiting: dict[str, int], *, book: Book, now: datetime
) -> uuid.UUID:
    """Let a task in, unless an earlier request made it; returns the key of the task that answers the request.

    Raises QueueFull, TooManyTasks, TokenBudgetExhausted.
    """
    if submission.idempotency_key is None:
        _reserve(submission, task, slots, waiting, book)
        return task.id
    with transaction.atomic():  # a refusal leaves no idempotency record behind
        first = idempotency.claim(submission.idempotency_key, task.id, now)
        if first == task.id:
            _reserve(submission, task, slots, waiting, book)
    return first


def _reserve(submission: Submission, task: AgentTask, slots: Slots, waiting: dict[str, int], book: Book) -> None:
    if (count := waiting.get(task.model, 0)) >= settings.MAX_QUEUED_PER_MODEL:
        # When a tenth of the queue has gone: sooner, everybody would come back for the same place.
        raise QueueFull(task.model, count, retry_after_seconds=slots.retry_after(task.model, math.ceil(count / 10)))
    if submission.charge is None:
        return
    try:
        task.reserved_tokens = book.reserve(submission.charge)
    except TooManyTasks as refusal:
        refusal.retry_after_seconds = slots.retry_after(task.model, 1)
        raise


def _first_event(task: AgentTask, now: datetime) -> NewEvent:
    task.created_at = now
    first = {"status": Status.QUEUED, "task": str(task.id), "session": str(task.session_id or "") or None}
    return event(task, TaskEvent.Type.STATE, first, now)


def _insert(
    submissions: Sequence[Submission], tasks: Sequence[AgentTask], news: Sequence[NewEvent], now: datetime
) -> None:
    new_sessions = [submission.new_session for submission in submissions if submission.new_session]
    for session in new_sessions:
        session.created_at = session.last_active_at = now
    messages = [submission.message for submission in submissions if submission.message]
    for message in messages:
        message.created_at = now
    statements.insert(new_sessions)
    statements.insert(tasks)
    statements.insert(messages)
    statements.insert_events(news)
    known = {message.session_id for message in messages} - {session.pk for session in new_sessions}
    statements.touch_sessions(known, now)


@dataclass(frozen=True)
class Recall:
    """A call that is answered from what was kept, or shares another call's answer. how: which of both."""

    task: AgentTask
    piece: JsonObject
    fields: dict[str, Any]
    receipt: dict[str, Any]
    how: str


def recall(changes: Sequence[Recall], now: datetime) -> list[AgentTask]:
    """Write calls down that were answered without a run: each is a task like any other, and it cost nothing."""
    tasks: list[AgentTask] = []
    news: list[NewEvent] = []
    for change in changes:
        task = copy.copy(change.task)
        news.append(_first_event(task, now))
        news += transitions.end_unsaved(
            task, now, change.piece, change.fields, {**change.receipt, "cache": change.how}
        )
        tasks.append(task)
    statements.insert(tasks)
    transitions.record(news)
    return tasks
