"""Few loads on nodes that hold few models at a time (Node.max_loaded_models).

A model that is not loaded on such a node waits as long as every loaded one has tasks that run or wait, until its
longest waiting task has waited SUTAZAI_SWAP_WAIT_SECONDS. Then the loaded model with the least to do makes room: it
gets no more slots there, and when its runs have ended the other one is loaded. That one then keeps its place for as
long again: in an overload, when everybody waits too long, models are not swapped with every task.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from agents.engine import counts
from agents.engine.statements import Place
from agents.models import NodeModel


class Residency:
    """What one node has in memory, and what may be started there now."""

    def __init__(
        self,
        places: Sequence[Place],
        running: Mapping[int, int],
        waiting: Mapping[str, int],
        waits_since: Callable[[Place], datetime | None],
        now: datetime,
    ) -> None:
        """places: all of the node. running, waiting: how many tasks, by place and by model, kept up to date.

        waits_since: since when the task waits, of those that are due and could run at a place, that waits longest.
        """
        self._places = places
        self._room = places[0].max_loaded_models or len(places)
        self._running = running
        self._waiting = waiting
        self._waits_since = waits_since
        self._now = now
        self._patience = timedelta(seconds=settings.SWAP_WAIT_SECONDS)
        self._kept_until = {place.id: place.kept_until for place in places if place.is_loaded}
        self._changed: set[int] = set()

    def barred(self) -> set[int]:
        """The places where nothing may be started now."""
        residents = self._residents()
        if len(residents) < self._room or any(not self._demand(place) for place in residents):
            return set()
        others = {place.id for place in self._places if place not in residents}
        heir, victim = self._heir(residents), self._victim(residents)
        if heir is None or victim is None:
            return others
        if self._runs(victim):
            return others | {victim.id}
        return others - {heir.id} | {victim.id}

    def start(self, place: Place) -> None:
        """Note that a task is about to start at a place: its model is loaded, and another one may have to go."""
        residents = self._residents()
        if any(resident.id == place.id for resident in residents):
            return
        kept_until = None
        if len(residents) >= self._room:
            idle = [resident for resident in residents if not self._demand(resident)]
            victim = min(idle, key=lambda resident: resident.id, default=self._victim(residents))
            assert victim is not None, "the place was barred"
            self._kept_until.pop(victim.id)
            self._changed.add(victim.id)
            kept_until = None if idle else self._now + self._patience
        self._kept_until[place.id] = kept_until
        self._changed.add(place.id)

    def room_at(self, place_id: int) -> datetime | None:
        """When another model makes room at the latest, but for what runs then; None where nobody waits for that."""
        place = next((place for place in self._places if place.id == place_id), None)
        since = self._waits_since(place) if place else None
        residents = self._residents()
        if since is None or place in residents or place_id not in self.barred():
            return None
        first = min((self._kept_until.get(resident.id) or self._now) for resident in residents)
        return max(since + self._patience, first)

    def write(self) -> None:
        """Write down what was loaded and what had to go; the next probe knows better."""
        models = {place.id: place.model for place in self._places}
        for place_id in sorted(self._changed):
            if place_id not in self._kept_until:
                transaction.on_commit(counts.model_swaps.labels(models[place_id]).inc, robust=True)
            NodeModel.objects.filter(pk=place_id).update(
                is_loaded=place_id in self._kept_until, kept_until=self._kept_until.get(place_id)
            )

    def _runs(self, place: Place) -> int:
        return self._running.get(place.id, 0)

    def _demand(self, place: Place) -> int:
        return self._runs(place) + (self._waiting.get(place.model, 0) if self._waits_since(place) else 0)

    def _residents(self) -> list[Place]:
        """What is in memory: what runs, and what else was loaded as far as there is room, the busiest first."""
        present = [place for place in self._places if self._runs(place) or place.id in self._kept_until]
        present.sort(key=lambda place: (not self._runs(place), -self._demand(place), place.id))
        return present[: self._room]

    def _heir(self, residents: Sequence[Place]) -> Place | None:
        """The model that has waited too long, the longest first."""
        overdue = [
            (since, place.id, place)
            for place in self._places
            if place not in residents and (since := self._waits_since(place)) and since <= self._now - self._patience
        ]
        return min(overdue)[2] if overdue else None

    def _victim(self, residents: Sequence[Place]) -> Place | None:
        """The model with the least to do, of those that have had their time."""
        free = [place for place in residents if (self._kept_until.get(place.id) or self._now) <= self._now]
        return min(free, key=lambda place: (self._demand(place), place.id), default=None)
