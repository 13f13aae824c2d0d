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


def grant(models: Collection[str], now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Give free slots of these models to the tasks that waited longest.

    Returns tickets for the tasks that were handed straight to takers; for the others a hint is published.
    """
    places = _lock_places(models)
    running = _running(places)
    tickets: list[Ticket] = []
    for model in sorted(places):
        for place, tasks in _assign(model, places[model], running, now).items():
            direct = tasks[: takers.count] if takers else []
            if direct and takers:
                takers.count -= len(direct)
                transitions.start(direct, place, now, runner=takers.runner)
                tickets.extend(Ticket(task.pk, task.fence, task.interruptions) for task in direct)
            if rest := tasks[len(direct) :]:
                transitions.start(rest, place, now)
    return tickets


def _lock_places(models: Collection[str]) -> dict[str, list[NodeModel]]:
    """Lock the places that serve these models. Whoever holds them alone counts and fills their slots."""
    places = defaultdict(list)
    rows = NodeModel.objects.serving(models).select_related("node").order_by("pk")
    for place in rows.select_for_update(of=("self",), no_key=True):
        places[place.name].append(place)
    return places


def _running(places: dict[str, list[NodeModel]]) -> dict[int, int]:
    ids = [place.pk for same_model in places.values() for place in same_model]
    counted = AgentTask.objects.running().filter(node_model__in=ids).order_by().values_list("node_model")
    return dict(counted.annotate(Count("pk")))


def _assign(
    model: str, places: list[NodeModel], running: dict[int, int], now: datetime
) -> dict[NodeModel, list[AgentTask]]:
    """Match the longest waiting tasks of a model with its free slots."""
    free = sum(max(0, place.node.slots - running.get(place.pk, 0)) for place in places)
    assigned: dict[NodeModel, list[AgentTask]] = defaultdict(list)
    if not free:
        return assigned
    due = Q(run_after=None) | Q(run_after__lte=now)
    waiting = AgentTask.objects.queued().filter(due, model=model, deadline_at__gt=now).order_by("pk")
    rows = waiting.only("pk", "status", "fence", "event_count", "interruptions")
    for task in rows.select_for_update(skip_locked=True, no_key=True)[:free]:
        place = routing.choose(places, running)
        if place is None:
            break
        assigned[place].append(task)
        running[place.pk] = running.get(place.pk, 0) + 1
    return assigned


def position(task: AgentTask) -> int | None:
    """How many tasks are to be started before this one, itself included; None when it does not wait."""
    if task.status != AgentTask.Status.QUEUED:
        return None
    return AgentTask.objects.queued().filter(model=task.model, pk__lte=task.pk).count()
