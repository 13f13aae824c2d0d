"""What the writer writes: each operation takes a list of changes and moves them within one transaction.

An operation runs again when its transaction failed, even where the database had committed it and only the answer was
lost. So it never changes what it was handed, and a change that was written already is no error.
Each locks in one order, so that two processes do not wait for each other: tasks, budgets, the places of models,
conversations, notifications. How tasks come in stands in `admission`.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q

from agents.engine import admission, charges, failures, statements, transitions
from agents.engine.errors import ModelUnreachable
from agents.engine.events import NewEvent, encode
from agents.engine.grant import Takers, Ticket, grant
from agents.engine.pieces import join
from agents.engine.statements import Change
from agents.engine.transitions import Move
from agents.engine.writer import Operation
from agents.models import AgentTask, ChatMessage, NodeModel, TaskEvent
from agents.ollama.types import JsonObject
from core.models import uuid7

Status = AgentTask.Status

# A task under which so many processes died may be what killed them (see `isolation`).
SUSPECT_INTERRUPTIONS = 2

# Codes and details of tasks that end from outside their runs.
CANCELLED = ("cancelled", "The task was cancelled.")
DEADLINE_PASSED = ("deadline-passed", "The task was not finished before its deadline.")


# Run ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Take:
    task_id: uuid.UUID
    runner: str


def take(changes: Sequence[Take], now: datetime) -> list[Ticket | None]:
    """Give granted tasks to the runners that ask for them; None where there is nothing to take."""
    wanted: dict[str, set[uuid.UUID]] = defaultdict(set)
    for change in changes:
        wanted[change.runner].add(change.task_id)
    tickets: dict[tuple[uuid.UUID, str], Ticket] = {}
    for runner, task_ids in wanted.items():
        for row in statements.take(task_ids, runner=runner, now=now, lease_until=transitions.lease_end(now)):
            tickets[row[0], runner] = Ticket(*row)
    # Of two who ask for one task, the first gets it.
    return [tickets.pop((change.task_id, change.runner), None) for change in changes]


def take_oldest(runners: Sequence[str], now: datetime) -> list[Ticket | None]:
    """Give each of these runners the granted task that has waited longest for any; None where there is none."""
    tickets: dict[str, list[Ticket]] = {}
    for runner in dict.fromkeys(runners):
        oldest = statements.oldest_unclaimed(runners.count(runner))
        rows = statements.take(oldest, runner=runner, now=now, lease_until=transitions.lease_end(now))
        tickets[runner] = [Ticket(*row) for row in rows]
    return [tickets[runner].pop() if tickets[runner] else None for runner in runners]


@dataclass
class Append:
    """A piece of a run's answer; `pull` gives what has gathered when it is written, and is called once.

    spoke_at: when the first piece of the answer came.
    """

    task_id: uuid.UUID
    fence: int
    spoke_at: datetime
    pull: Callable[[], JsonObject]
    _piece: JsonObject | None = field(default=None, init=False)

    @property
    def piece(self) -> JsonObject:
        if self._piece is None:
            self._piece = self.pull()
        return self._piece


def append(changes: Sequence[Append], now: datetime) -> list[bool]:
    """Write pieces of answers as events; False where the run does not own its task any more.

    One statement checks all fences and draws all numbers: this is the write that happens most.
    """
    gathered: dict[tuple[uuid.UUID, int], list[JsonObject]] = defaultdict(list)
    spoke_at: dict[tuple[uuid.UUID, int], datetime] = {}
    for change in changes:
        if change.piece:
            run = change.task_id, change.fence
            gathered[run].append(change.piece)
            spoke_at[run] = change.spoke_at
    numbers = statements.next_numbers(spoke_at) if gathered else {}
    news = [
        NewEvent(key[0], numbers[key], TaskEvent.Type.DELTA, encode(join(pieces)), now)
        for key, pieces in gathered.items()
        if key in numbers
    ]
    if news:
        transitions.record(news)
    return [not change.piece or (change.task_id, change.fence) in numbers for change in changes]


@dataclass(frozen=True)
class Finish:
    """The end of a run: the last piece of its answer, and the status and columns to write.

    spoke_at: when the first piece came.
    """

    task_id: uuid.UUID
    fence: int
    status: "AgentTask.Status"
    tail: JsonObject = field(default_factory=dict)
    spoke_at: datetime | None = None
    run: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    error_code: str = ""
    error_detail: str = ""
    next_for: str = ""  # the runner that would take another task at once


class Finished(NamedTuple):
    """is_owner: whether this run's end was written. next_ticket: another task to run, if the runner asked for one."""

    is_owner: bool
    next_ticket: Ticket | None = None


def finish(changes: Sequence[Finish], now: datetime) -> list[Finished]:
    """Write the ends of runs, and give their slots, and their threads, to the tasks that wait.

    A run ends once: of two ends of one run, the first counts.
    """
    first = {(change.task_id, change.fence): change for change in reversed(changes)}
    tasks = statements.lock_tasks({change.task_id for change in changes})
    owned = [
        first[change.task_id, change.fence] is change and transitions.is_held(tasks.get(change.task_id), change.fence)
        for change in changes
    ]
    ended = [change for change, is_owner in zip(changes, owned, strict=True) if is_owner]
    transitions.write([_end(tasks[change.task_id], change, now) for change in ended])
    charges.settle([tasks[change.task_id] for change in ended])
    tickets = _grant_after(ended, tasks, now)
    _write_answers(ended, tasks, now)
    failures.tell_owners([tasks[change.task_id] for change in ended], now)
    return [
        Finished(is_owner, tickets.pop() if is_owner and change.next_for and tickets else None)
        for change, is_owner in zip(changes, owned, strict=True)
    ]


def _end(task: AgentTask, change: Finish, now: datetime) -> Move:
    return transitions.end(
        task,
        now,
        change.status,
        error_code=change.error_code,
        error_detail=change.error_detail,
        tail=change.tail,
        spoke_at=change.spoke_at,
        run=change.run,
        **change.fields,
    )


def _write_answers(ended: Sequence[Finish], tasks: dict[uuid.UUID, AgentTask], now: datetime) -> None:
    """Add answers to the conversations that they belong to."""
    answers = [
        ChatMessage(
            id=uuid7(),
            session_id=session_id,
            task_id=change.task_id,
            role=ChatMessage.Role.ASSISTANT,
            content=change.fields["result"],
            created_at=now,
        )
        for change in ended
        if change.status == Status.SUCCEEDED and (session_id := tasks[change.task_id].session_id)
    ]
    if answers:
        statements.insert(answers)
        statements.touch_sessions({answer.session_id for answer in answers}, now)


def _grant_after(ended: Sequence[Finish], tasks: dict[uuid.UUID, AgentTask], now: datetime) -> list[Ticket]:
    free = [change.next_for for change in ended if change.next_for]
    takers = Takers(runner=free[0], count=len(free)) if free else None
    return grant({tasks[change.task_id].model for change in ended}, now, takers)


@dataclass(frozen=True)
class SendBack:
    """A run that ends without an answer, so that the task starts over.

    delay_seconds: how long it waits, unless another node than the one that it `avoids` can take it at once.
    or_end: how it ends where no other node can take it, or each has failed once.
    keeps_reservation: whether the process that ran it waits to run it again.
    """

    task_id: uuid.UUID
    fence: int
    reason: str
    counts: str | None = None
    delay_seconds: float = 0
    avoids: uuid.UUID | None = None
    or_end: Finish | None = None
    keeps_reservation: bool = False


def send_back(changes: Sequence[SendBack], now: datetime) -> list[bool]:
    """Put tasks back into the queue; False where the run does not own its task any more."""
    tasks = statements.lock_tasks({change.task_id for change in changes})
    answers, moves, ended = [], [], []
    for change in changes:
        task = tasks.get(change.task_id)
        is_owner = transitions.is_held(task, change.fence)
        if is_owner and task is not None:
            others = 0 if change.avoids is None else _places_besides(task.model, change.avoids)
            if change.or_end and others <= task.attempts:
                moves.append(_end(task, change.or_end, now))
                ended.append(task)
            else:
                delay_seconds = 0 if others else change.delay_seconds
                moves.append(_start_over(task, change, now, delay_seconds=delay_seconds))
        answers.append(is_owner)
    transitions.write(moves)
    charges.settle(ended)
    grant({task.model for task in tasks.values()}, now)
    failures.tell_owners(ended, now)
    return answers


def _start_over(task: AgentTask, change: SendBack, now: datetime, *, delay_seconds: float) -> Move:
    return transitions.send_back(
        task,
        now,
        reason=change.reason,
        run_after=now + timedelta(seconds=delay_seconds) if delay_seconds else None,
        counts=change.counts,
        avoids=change.avoids,
        keeps_reservation=change.keeps_reservation,
    )


def _places_besides(model: str, node_id: uuid.UUID) -> int:
    """Count the other living nodes that have the model, be they busy now."""
    return NodeModel.objects.serving([model]).working().exclude(node=node_id).count()


@dataclass(frozen=True)
class Renew:
    task_id: uuid.UUID
    fence: int


def renew(changes: Sequence[Renew], now: datetime) -> list[bool]:
    """Renew the leases of runs; False where the run does not own its task any more."""
    held = _held(changes, lock=True)
    AgentTask.objects.filter(pk__in={task_id for task_id, _ in held}, status=Status.RUNNING).update(
        lease_until=transitions.lease_end(now)
    )
    return [(change.task_id, change.fence) in held for change in changes]


def still_held(runs: Sequence[Renew]) -> list[bool]:
    """Tell for each run whether it still owns its task: a look without a write."""
    held = _held(runs, lock=False)
    return [(run.task_id, run.fence) in held for run in runs]


def _held(runs: Sequence[Renew], *, lock: bool) -> set[tuple[uuid.UUID, int]]:
    rows = AgentTask.objects.running().filter(pk__in={run.task_id for run in runs}).order_by("pk")
    if lock:
        rows = rows.select_for_update(no_key=True)
    return set(rows.values_list("pk", "fence")) & {(run.task_id, run.fence) for run in runs}


# From outside a run -------------------------------------------------------------------------------------------------


def cancel(task_ids: Sequence[uuid.UUID], now: datetime) -> list[bool]:
    """End unfinished tasks at once; False for those that had ended already. Their runners notice within a second."""
    tasks = statements.lock_tasks(set(task_ids))
    answers, moves, ended = [], [], []
    for task_id in task_ids:
        task = tasks.get(task_id)
        if task is None or task.is_finished:
            answers.append(False)
            continue
        code, detail = CANCELLED
        moves.append(transitions.end(task, now, Status.CANCELLED, error_code=code, error_detail=detail))
        answers.append(True)
        ended.append(task)
    transitions.write(moves)
    charges.settle(ended)
    grant({task.model for task in tasks.values()}, now)
    return answers


@dataclass(frozen=True)
class Prioritise:
    """A waiting task to go into another class."""

    task_id: uuid.UUID
    priority: "AgentTask.Priority"


def prioritise(changes: Sequence[Prioritise], now: datetime) -> list[bool]:
    """Move waiting tasks into other classes; False for those that do not wait."""
    tasks = statements.lock_tasks({change.task_id for change in changes})
    answers, moved = [], []
    for change in changes:
        task = tasks.get(change.task_id)
        waits = task is not None and task.status == Status.QUEUED
        if task is not None and waits:
            moved.append(Change(task, task.status, {"priority": change.priority}))
        answers.append(waits)
    statements.update(moved)
    grant({task.model for task in tasks.values()}, now)
    return answers


def give_up(task_ids: Sequence[uuid.UUID], now: datetime) -> list[bool]:
    """Cancel tasks that wait for models that no node can run now; False for those that do not wait any more."""
    tasks = statements.lock_tasks(set(task_ids))
    waiting = [task for task in tasks.values() if task.status == Status.QUEUED]
    refusals = [ModelUnreachable(task.model) for task in waiting]
    transitions.write(
        [
            transitions.end(task, now, Status.CANCELLED, error_code=refusal.code, error_detail=refusal.detail)
            for task, refusal in zip(waiting, refusals, strict=True)
        ]
    )
    charges.settle(waiting)
    ended = {task.pk for task in waiting}
    return [task_id in ended for task_id in task_ids]


def mark_announced(task_ids: Sequence[uuid.UUID], now: datetime) -> list[None]:
    """Note that grants were published, so that the relay need not. Those that are being taken need no note."""
    unclaimed = AgentTask.objects.running().filter(pk__in=task_ids, runner="", announced_at=None)
    free = unclaimed.select_for_update(skip_locked=True, no_key=True)
    AgentTask.objects.filter(pk__in=free.values("pk")).update(announced_at=now)
    return [None] * len(task_ids)


def release(processes: Sequence[str], _: datetime) -> list[int]:
    """Let any runner have the waiting tasks that are reserved for these processes, which are dead; count them."""
    counts: list[int] = []
    for process in processes:
        waiting = AgentTask.objects.queued().filter(reserved_for=process)
        tasks = statements.lock_tasks(set(waiting.values_list("pk", flat=True)))
        counts.append(AgentTask.objects.queued().filter(pk__in=tasks).update(reserved_for=""))
    return counts


# The caretaker's ---------------------------------------------------------------------------------------------------


def reap(selections: Sequence[Q], now: datetime) -> list[int]:
    """Take running tasks of these selections away from their runners, which are dead or silent; count them."""
    counts: list[int] = []
    models: set[str] = set()
    for selection in selections:
        ids = set(AgentTask.objects.running().filter(selection).values_list("pk", flat=True))
        tasks = statements.lock_tasks(ids)
        still = set(AgentTask.objects.running().filter(selection, pk__in=tasks).values_list("pk", flat=True))
        transitions.write([_interrupt(tasks[task_id], now) for task_id in still])
        models |= {tasks[task_id].model for task_id in still}
        counts.append(len(still))
    grant(models, now)
    return counts


def _interrupt(task: AgentTask, now: datetime) -> Move:
    # A suspect was not in the process that died, but in its quarantine.
    counts = "interruptions" if task.interruptions < SUSPECT_INTERRUPTIONS else None
    return transitions.send_back(task, now, reason="The process that ran the task died.", counts=counts)


def expire(limits: Sequence[int], now: datetime) -> list[int]:
    """End tasks whose deadline has passed, at most so many at a time; count them."""
    counts: list[int] = []
    ended: list[AgentTask] = []
    for limit in limits:
        due = AgentTask.objects.unfinished().filter(deadline_at__lte=now)
        tasks = statements.lock_tasks(set(due.values_list("pk", flat=True)[:limit]))
        late = [task for task in tasks.values() if not task.is_finished]
        code, detail = DEADLINE_PASSED
        transitions.write(
            [transitions.end(task, now, Status.EXPIRED, error_code=code, error_detail=detail) for task in late]
        )
        ended += late
        counts.append(len(late))
    charges.settle(ended)
    grant({task.model for task in ended}, now)
    failures.tell_owners(ended, now)
    return counts


def renew_unclaimed(task_ids: Sequence[uuid.UUID], now: datetime) -> list[None]:
    """Give grants that no runner took a new lease, and have them published again."""
    unclaimed = AgentTask.objects.running().filter(pk__in=task_ids, runner="")
    unclaimed.update(announced_at=None, lease_until=transitions.lease_end(now))
    return [None] * len(task_ids)


def grant_waiting(models: Sequence[str], now: datetime) -> list[None]:
    """Grant what waits: tasks whose retry is due, or whose model has found a place."""
    grant(set(models), now)
    return [None] * len(models)


# In the order of a run's life. Each stage of a batch is a transaction, and locks the places of models once at most:
# a second time, for other models, would be in another order.
STAGES: tuple[tuple[Operation[Any, Any], ...], ...] = (
    (take, take_oldest, append, renew, mark_announced, renew_unclaimed, finish),
    (send_back,),
    (cancel, give_up, release),
    (prioritise,),
    (reap,),
    (expire,),
    (admission.submit,),
    (admission.recall,),
    (grant_waiting,),
)
