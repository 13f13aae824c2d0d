"""Who goes next: the one place where waiting tasks are given slots.

First come, first served, per model. Called wherever a slot may have become free or a task has come, it does nothing
when there is nothing to do, so calling it once too often is harmless.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q

from agents.engine import routing, transitions
from agents.models import AgentTask, NodeModel


@dataclass(frozen=True)
class Ticket:
    """The right to run a task once: every write of the run names this fence."""

    task_id: UUID
    fence: int
    interruptions: int


@dataclass
class Takers:
    """Threads of one process that are free to run a task at once, without waiting for a message."""

    runner: str
    count: int = 0


class Slots:
    """The places that serve some models, locked: whoever holds them alone counts and fills their slots."""

    def __init__(self, models: Collection[str]) -> None:
        self._places: dict[str, list[NodeModel]] = defaultdict(list)
        rows = NodeModel.objects.serving(models).select_related("node").order_by("pk")
        for place in rows.select_for_update(of=("self",), no_key=True):
            self._places[place.name].append(place)
        ids = [place.pk for places in self._places.values() for place in places]
        counted = AgentTask.objects.running().filter(node_model__in=ids).order_by().values_list("node_model")
        self._running: dict[int, int] = dict(counted.annotate(Count("pk"))) if ids else {}

    @property
    def models(self) -> list[str]:
        return sorted(self._places)

    def free(self, model: str) -> int:
        places = self._places.get(model, [])
        return sum(max(0, place.node.slots - self._running.get(place.pk, 0)) for place in places)

    def occupy(self, model: str) -> NodeModel | None:
        """Take the best free slot of a model; None where there is none."""
        place = routing.choose(self._places.get(model, []), self._running)
        if place is not None:
            self._running[place.pk] = self._running.get(place.pk, 0) + 1
        return place


def grant(models: Collection[str], now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Give free slots of these models to the tasks that waited longest.

    Returns tickets for the tasks that were handed straight to takers; for the others a hint is published.
    """
    return fill(Slots(models), now, takers) if models else []


def fill(slots: Slots, now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Grant as `grant` does, at places that are locked already."""
    tickets: list[Ticket] = []
    for model in slots.models:
        for place, tasks in _assign(model, slots, now).items():
            direct = tasks[: takers.count] if takers else []
            if direct and takers:
                takers.count -= len(direct)
                transitions.start(direct, place, now, runner=takers.runner)
                tickets.extend(Ticket(task.pk, task.fence, task.interruptions) for task in direct)
            if rest := tasks[len(direct) :]:
                transitions.start(rest, place, now)
    return tickets


def _assign(model: str, slots: Slots, now: datetime) -> dict[NodeModel, list[AgentTask]]:
    """Match the longest waiting tasks of a model with its free slots."""
    free = slots.free(model)
    assigned: dict[NodeModel, list[AgentTask]] = defaultdict(list)
    if not free:
        return assigned
    due = Q(run_after=None) | Q(run_after__lte=now)
    waiting = AgentTask.objects.queued().filter(due, model=model, deadline_at__gt=now).order_by("pk")
    rows = waiting.only("pk", "status", "fence", "event_count", "interruptions")
    for task in rows.select_for_update(skip_locked=True, no_key=True)[:free]:
        place = slots.occupy(model)
        assert place is not None, "fewer slots than were free"
        assigned[place].append(task)
    return assigned


def position(task: AgentTask) -> int | None:
    """How many tasks are to be started before this one, itself included; None when it does not wait."""
    if task.status != AgentTask.Status.QUEUED:
        return None
    return AgentTask.objects.queued().filter(model=task.model, pk__lte=task.pk).count()
