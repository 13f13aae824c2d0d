"""The queues as people see them: who waits where, and for how long still. It looks, and changes nothing."""

import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from cachetools import TTLCache
from django.db.models import Count

from agents.engine import statements
from agents.engine.fair_order import Turns, class_of, in_order, turns_of
from agents.engine.forecast import Outlook
from agents.engine.grant import Slots
from agents.engine.statements import Waiting
from agents.models import AgentTask, NodeModel
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


# For operators -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlaceState:
    """A model on a node. room_at: when it is loaded at the latest, where it waits for others to make room."""

    place: NodeModel
    running: int
    room_at: datetime | None


@dataclass(frozen=True)
class Entry:
    """A task that waits."""

    task: AgentTask
    standing: Standing


@dataclass(frozen=True)
class ModelQueue:
    """The queue of a model. slots: of nodes that take tasks. expected_wait_seconds: of whoever comes now.

    tasks: the first of those that wait.
    """

    model: str
    slots: int
    running: int
    waiting: int
    expected_wait_seconds: float | None
    places: list[PlaceState]
    tasks: list[Entry]


def overview(*, tasks: int, model: str = "") -> list[ModelQueue]:
    """Show the queues of all models, or of one, with so many of the tasks that are to go first; the longest first."""
    now = clock.now()
    places = _places(model)
    queued = AgentTask.objects.queued().order_by().values_list("model", flat=True).distinct()
    waiting = _waiting([model] if model else list(queued), now)
    names = {*places, *waiting}
    slots, turns = Slots(names, now, is_locked=False), turns_of(waiting)
    ordered = {name: _standings(name, mine, slots, turns[name], now) for name, mine in waiting.items()}
    first = {name: dict(islice(mine.items(), tasks)) for name, mine in ordered.items()}
    rows = AgentTask.objects.select_related("agent", "owner", "team").only(
        "status", "model", "priority", "created_at", "agent__name", "owner__username", "team__name"
    )
    known = rows.in_bulk([task_id for mine in first.values() for task_id in mine])
    running = Counter(dict(AgentTask.objects.running().order_by().values_list("node_model").annotate(Count("pk"))))
    found = [
        ModelQueue(
            name,
            slots=sum(place.node.slots for place in places[name] if place.node.takes_tasks),
            running=sum(running[place.pk] for place in places[name]),
            waiting=len(waiting.get(name, ())),
            expected_wait_seconds=slots.outlook(name).wait_seconds(len(waiting.get(name, ())) + 1),
            places=[PlaceState(place, running[place.pk], slots.room_at(place.pk)) for place in places[name]],
            tasks=[Entry(known[key], mine) for key, mine in first.get(name, {}).items() if key in known],
        )
        for name in names
    ]
    return sorted(found, key=lambda queue: (-queue.waiting, -queue.running, queue.model))


def _places(model: str) -> dict[str, list[NodeModel]]:
    rows = NodeModel.objects.filter(is_available=True).select_related("node__breaker").order_by("node__name", "name")
    places: dict[str, list[NodeModel]] = defaultdict(list)
    for place in rows.filter(name=model) if model else rows:
        places[place.name].append(place)
    return places
