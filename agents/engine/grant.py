"""Who goes next: the one place where waiting tasks are given slots.

The order of a model's queue is `fair_order`'s, which places may be used is `swaps`', and which of them is best is
`routing`'s to say. Called wherever a slot may have become free or a task has come, the grant does nothing when there
is nothing to do, so calling it once too often is harmless.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from agents.engine import forecast, routing, statements, transitions
from agents.engine.fair_order import Turns, class_of, in_order, turns_of, write_turns
from agents.engine.forecast import Outlook
from agents.engine.statements import Place, Waiting
from agents.engine.swaps import Residency
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
    """The places that serve some models, locked: whoever holds them alone counts and fills their slots.

    Of nodes that hold few models at a time, the other models belong to it: what one does not take another may.
    """

    def __init__(self, models: Collection[str], now: datetime, *, is_locked: bool = True) -> None:
        """is_locked: false for those who only look."""
        self._now = now
        self._places: dict[str, list[Place]] = defaultdict(list)
        places = statements.lock_places(models, now) if is_locked else statements.read_places(models, now)
        for place in places:
            if place.is_available:
                self._places[place.model].append(place)
        # How many tasks hold a slot of each place, kept up to date, and how many waited for each model.
        self._running, self.waiting = statements.load({*models, *self._places}, [place.id for place in places])
        self._heads: dict[str, list[Waiting]] | None = None
        self._nodes = self._nodes_of_few_models(places)

    def _nodes_of_few_models(self, places: Collection[Place]) -> dict[UUID, Residency]:
        nodes: dict[UUID, list[Place]] = defaultdict(list)
        for place in places:
            if place.max_loaded_models is not None:
                nodes[place.node_id].append(place)
        return {
            node_id: Residency(having, self._running, self.waiting, self._waits_since, self._now)
            for node_id, having in nodes.items()
        }

    @property
    def heads(self) -> dict[str, list[Waiting]]:
        """The tasks that may be granted next, by model: of each person in each class as many as there are slots."""
        if self._heads is None:
            self._heads = defaultdict(list)
            if self.waiting:
                limit = max(1, *(self._empty(model) for model in self.waiting))
                for task in statements.oldest_waiting(self.waiting, limit, self._now):
                    self._heads[task.model].append(task)
        return self._heads

    def look_again(self) -> None:
        """Read anew who waits."""
        self._heads = None

    @property
    def wanted(self) -> list[str]:
        """The models that tasks wait for and that have a free slot; the most urgent task's first."""
        free = [model for model in self.waiting if self.free(model) and self.heads[model]]
        return sorted(free, key=self._urgency) if len(free) > 1 else free

    def _urgency(self, model: str) -> tuple[int, Any]:
        return min((class_of(task, self._now), task.id) for task in self.heads[model])

    def free(self, model: str) -> int:
        """How many tasks of a model may be started now."""
        return sum(max(0, place.slots - self._running.get(place.id, 0)) for place in self._open(model))

    def occupy(self, model: str, *, avoiding: UUID | None = None) -> Place | None:
        """Take the best free slot of a model; None where there is none.

        avoiding: a node that is taken only where there is no other.
        """
        places = self._open(model)
        if avoiding is not None and any(place.node_id != avoiding for place in self._places.get(model, [])):
            places = [place for place in places if place.node_id != avoiding]
        place = routing.choose(places, self._running)
        if place is None:
            return None
        if node := self._nodes.get(place.node_id):
            node.start(place)
            others = (other for other in self._places[model] if other.id != place.id)
            self._places[model] = [place._replace(is_loaded=True), *others]
        self._running[place.id] = self._running.get(place.id, 0) + 1
        return place

    def outlook(self, model: str) -> Outlook:
        """What those who wait for a model have before them; nothing where another model has to make room first."""
        return Outlook(self.free(model), forecast.tasks_per_second(self._open(model)))

    def room_at(self, place_id: int) -> datetime | None:
        """When a place's model is loaded at the latest, where it waits for others to make room."""
        return next((moment for node in self._nodes.values() if (moment := node.room_at(place_id))), None)

    def retry_after(self, model: str, tasks: int) -> int:
        """In how many seconds so many tasks of a model will have ended."""
        outlook = Outlook(0, forecast.tasks_per_second(self._places.get(model, [])))
        return forecast.retry_after(outlook.wait_seconds(tasks))

    def write(self) -> None:
        """Write down what the nodes are about to load."""
        for node in self._nodes.values():
            node.write()

    def _empty(self, model: str) -> int:
        return sum(max(0, place.slots - self._running.get(place.id, 0)) for place in self._places.get(model, []))

    def _open(self, model: str) -> list[Place]:
        """The places of a model where tasks may be started now, if a slot is free."""
        places = self._places.get(model, [])
        barred = {place_id for node in self._nodes.values() for place_id in node.barred()}
        return [place for place in places if place.id not in barred]

    def _waits_since(self, place: Place) -> datetime | None:
        if place.model not in self.waiting or not place.is_available:
            return None
        return min((task.since for task in self.heads[place.model]), default=None)


def grant(models: Collection[str], now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Give free slots of these models to the tasks that are to go first.

    Returns tickets for the tasks that were handed straight to takers; for the others a hint is published.
    """
    return [] if not models or statements.nobody_waits() else fill(Slots(models, now), now, takers)


def fill(slots: Slots, now: datetime, takers: Takers | None = None) -> list[Ticket]:
    """Grant as `grant` does, at places that are locked already."""
    tickets = _hand_out(slots, now, takers) if slots.waiting else []
    slots.write()
    return tickets


def _hand_out(slots: Slots, now: datetime, takers: Takers | None) -> list[Ticket]:
    tickets: list[Ticket] = []
    wanted = slots.wanted
    turns = turns_of(wanted)
    for model in wanted:
        for (place, reserved_for), tasks in _assign(model, slots, turns[model], now).items():
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
    write_turns(turns)
    return tickets


def _assign(model: str, slots: Slots, turns: Turns, now: datetime) -> dict[tuple[Place, str], list[AgentTask]]:
    """Match the tasks of a model that are to go first with its free slots; by place and whom they are reserved for."""
    assigned: dict[tuple[Place, str], list[AgentTask]] = defaultdict(list)
    order = in_order(slots.heads[model], turns, now)
    while first := list(islice(order, slots.free(model))):
        # Who holds one of them is about to change it, and grants after that.
        tasks = statements.lock_tasks([waiting.key for waiting in first], skips_locked=True)
        for waiting in first:
            task = tasks.get(waiting.key)
            if task is None or task.status != AgentTask.Status.QUEUED:
                continue
            place = slots.occupy(model, avoiding=task.avoided_node_id)
            if place is not None:  # else what is free is the node where it has just failed
                turns.charge(waiting)
                assigned[place, task.reserved_for].append(task)
    return assigned
