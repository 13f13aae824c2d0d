"""Who goes next: the one place where waiting tasks are given slots.

First come, first served, per model. Called wherever a slot may have become free or a task has come, it does nothing
when there is nothing to do, so calling it once too often is harmless.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from agents.engine import routing, statements, transitions
from agents.engine.statements import Place
from agents.models import AgentTask


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
        self._places: dict[str, list[Place]] = defaultdict(list)
        places = statements.lock_places(models)
        for place in places:
            self._places[place.model].append(place)
        # How many tasks hold a slot of each place, kept up to date, and how many waited for each model.
        self._running, self.waiting = statements.load(models, [place.id for place in places])

    @property
    def wanted(self) -> list[str]:
        """The models that tasks wait for and that have a free slot."""
        return sorted(model for model in self.waiting if self.free(model))

    def _besides(self, model: str, node_id: UUID | None) -> list[Place]:
        return [place for place in self._places.get(model, []) if place.node_id != node_id]

    def free(self, model: str) -> int:
        places = self._places.get(model, [])
        return sum(max(0, place.slots - self._running.get(place.id, 0)) for place in places)

    def occupy(self, model: str, *, avoiding: UUID | None = None) -> Place | None:
        """Take the best free slot of a model; None where there is none.

        avoiding: a node that is taken only where there is no other.
        """
        places = self._places.get(model, [])
        place = routing.choose(self._besides(model, avoiding) or places, self._running)
        if place is not None:
            self._running[place.id] = self._running.get(place.id, 0) + 1
        return place


def grant(models: Collection[str], now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Give free slots of these models to the tasks that waited longest.

    Returns tickets for the tasks that were handed straight to takers; for the others a hint is published.
    """
    return fill(Slots(models), now, takers) if models else []


def fill(slots: Slots, now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Grant as `grant` does, at places that are locked already."""
    tickets: list[Ticket] = []
    for model in slots.wanted:
        for (place, reserved_for), tasks in _assign(model, slots, now).items():
            if reserved_for:  # that process follows the task, and sees that it is its own now
                transitions.start(tasks, place, now, runner=reserved_for)
                continue
            direct = tasks[: takers.count] if takers else []
            if direct and takers:
                takers.count -= len(direct)
                transitions.start(direct, place, now, runner=takers.runner)
                tickets.extend(Ticket(task.pk, task.fence, task.interruptions) for task in direct)
            if rest := tasks[len(direct) :]:
                transitions.start(rest, place, now)
    return tickets


def _assign(model: str, slots: Slots, now: datetime) -> dict[tuple[Place, str], list[AgentTask]]:
    """Match the longest waiting tasks of a model with its free slots, by place and by whom they are reserved for."""
    assigned: dict[tuple[Place, str], list[AgentTask]] = defaultdict(list)
    due = Q(run_after=None) | Q(run_after__lte=now)
    waiting = AgentTask.objects.queued().filter(due, model=model, deadline_at__gt=now).order_by("pk")
    rows = waiting.only("pk", "status", "fence", "event_count", "interruptions", "reserved_for", "avoided_node_id")
    for task in rows.select_for_update(skip_locked=True, no_key=True)[: slots.free(model)]:
        place = slots.occupy(model, avoiding=task.avoided_node_id)
        if place is not None:  # else what is free is the node where it has just failed
            assigned[place, task.reserved_for].append(task)
    return assigned


def position(task: AgentTask) -> int | None:
    """How many tasks are to be started before this one, itself included; None when it does not wait."""
    if task.status != AgentTask.Status.QUEUED:
        return None
    return AgentTask.objects.queued().filter(model=task.model, pk__lte=task.pk).count()
