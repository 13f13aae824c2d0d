"""The queues as people see them: who waits where, and for how long still. It looks, and changes nothing."""

import threading
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cachetools import TTLCache

from agents.engine import statements
from agents.engine.fair_order import Turns, class_of, in_order, turns_of
from agents.engine.forecast import Outlook
from agents.engine.grant import Slots
from agents.engine.statements import Waiting
from agents.models import AgentTask
from core.ops import clock

# To order a long queue takes milliseconds: whoever asks is told what somebody else was told within the last second.
LONG_QUEUE = 100
REMEMBER_SECONDS = 1.0


@dataclass(frozen=True)
class Standing:
    """Where a waiting task stands.

    position: tasks to be started up to this one, itself included, if nobody else comes. priority: the class that it
    waits in by now. since: when it began to wait. expected_wait_seconds: None where nobody knows.
    """

    position: int
    priority: AgentTask.Priority
    since: datetime
    expected_wait_seconds: float | None


Standings = Mapping[uuid.UUID, Standing]

_remembered: TTLCache[str, Standings] = TTLCache(maxsize=64, ttl=REMEMBER_SECONDS)
_lock = threading.Lock()


def standing(task: AgentTask) -> Standing | None:
    """Tell where a task stands; None when it does not wait."""
    if task.status != AgentTask.Status.QUEUED:
        return None
    with _lock:
        known = _remembered.get(task.model, {}).get(task.pk)
    return known or standings([task.model])[task.model].get(task.pk)


def standings(models: Collection[str]) -> dict[str, Standings]:
    """Tell where all tasks stand that wait for these models, by model; the first to go first."""
    now = clock.now()
    waiting = _waiting(models, now)
    slots, turns = Slots(waiting, now, is_locked=False), turns_of(waiting)
    found = {model: _standings(model, tasks, slots, turns[model], now) for model, tasks in waiting.items()}
    with _lock:
        _remembered.update({model: known for model, known in found.items() if len(known) > LONG_QUEUE})
    return {model: found.get(model, {}) for model in models}


def forget() -> None:
    """Look anew at long queues, too."""
    _remembered.clear()


def _waiting(models: Collection[str], now: datetime) -> dict[str, list[Waiting]]:
    waiting: dict[str, list[Waiting]] = defaultdict(list)
    for task in statements.all_waiting(models, now):
        waiting[task.model].append(task)
    return waiting


def _standings(model: str, tasks: Sequence[Waiting], slots: Slots, turns: Turns, now: datetime) -> Standings:
    """Order the tasks of one model; those that wait for their next try come last."""
    due = [task for task in tasks if task.run_after is None or task.run_after <= now]
    later = [task for task in tasks if task.run_after is not None and task.run_after > now]
    later.sort(key=lambda task: (task.since, task.id))
    outlook = slots.outlook(model)
    return {
        task.key: Standing(
            position, AgentTask.Priority(class_of(task, now)), task.since, _expected_wait(task, position, outlook, now)
        )
        for position, task in enumerate([*in_order(due, turns, now), *later], start=1)
    }


def _expected_wait(task: Waiting, position: int, outlook: Outlook, now: datetime) -> float | None:
    seconds = outlook.wait_seconds(position)
    return None if seconds is None else max(seconds, (task.since - now).total_seconds())
