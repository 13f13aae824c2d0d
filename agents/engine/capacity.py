"""Do the nodes suffice? What was measured of each model of late, and what follows from it (`queueing`)."""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncMinute

from agents.engine import queueing
from agents.engine.queueing import Service
from agents.models import AgentTask, NodeModel
from core.models.base import uuid7_from

# The latest tasks tell how long tasks take, and the busiest minutes in a row how many come.
SAMPLE = 20_000
BUSIEST_MINUTES = 10
# More than any node has; numbers beyond it are slips of the pen.
MOST_SLOTS = 100_000


@dataclass(frozen=True)
class Place:
    """A model on a node. service: of the tasks that ended there; None where none did."""

    node: str
    slots: int
    service: Service | None = None


@dataclass(frozen=True)
class Measured:
    """What is known of a model.

    per_second, busiest_per_second: tasks that came and needed a slot, on average and in the busiest minutes.
    service: of all tasks that ended; None where none did. places: where tasks may run now.
    """

    model: str
    per_second: float
    busiest_per_second: float
    tasks: int
    service: Service | None
    places: Sequence[Place]

    @property
    def slots(self) -> int:
        return sum(place.slots for place in self.places)

    @property
    def service_here(self) -> Service | None:
        """The times that tasks would take if all slots of all places were busy.

        A quick node then does more of the tasks than a slow one. Places that nobody measured are taken for average.
        """
        if self.service is None:
            return None
        parts = [(place.service or self.service, place.slots) for place in self.places]
        return _mixture((part, slots / part.mean) for part, slots in parts) or self.service


@dataclass(frozen=True)
class Assumed:
    """What is to be taken for true in place of what was measured; None: what was measured."""

    per_second: float | None = None
    service: Service | None = None
    slots: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a rate of arrivals and a number of slots come to.

    waiting: None where more comes than the slots can do. slots_needed: so that 95 % of the tasks wait no longer than
    target_seconds.
    """

    per_second: float
    service: Service
    slots: int
    target_seconds: float
    waiting: queueing.Waiting | None
    slots_needed: int

    @property
    def utilisation(self) -> float:
        """The share of the slots that is busy; above 1 where more comes than they can do, infinite without any."""
        return queueing.load(self.per_second, self.service) / self.slots if self.slots else math.inf

    @property
    def grows_per_second(self) -> float:
        """By how many tasks the queue grows."""
        return max(0.0, self.per_second - self.slots / self.service.mean)


class TooMuch(ValueError):
    """The work would keep more slots busy than there can be. One of the numbers is wrong."""


def plan(known: Measured, *, target_seconds: float, assumed: Assumed) -> Plan | None:
    """Tell what the slots are good for; None where nobody knows how long tasks take. Raises TooMuch."""
    service = assumed.service or (known.service if assumed.slots else known.service_here)
    if service is None:
        return None
    per_second = known.busiest_per_second if assumed.per_second is None else assumed.per_second
    slots = known.slots if assumed.slots is None else assumed.slots
    if queueing.load(per_second, service) > MOST_SLOTS:
        raise TooMuch
    return Plan(
        per_second,
        service,
        slots,
        target_seconds,
        waiting=queueing.waiting(per_second, service, slots) if slots else None,
        slots_needed=queueing.slots_for(per_second, service, seconds=target_seconds),
    )


# What was measured ---------------------------------------------------------------------------------------------------


def measure(since: datetime, now: datetime, *, model: str = "") -> list[Measured]:
    """Look at the tasks of a span of time, and at the nodes as they are now; of all models, or of one."""
    tasks = AgentTask.objects.filter(model=model) if model else AgentTask.objects.all()
    arrivals = _arrivals(tasks, since, now)
    places = _places()
    seconds = _seconds_by_place(tasks, since, now)
    names = {model} if model else {*arrivals, *places, *(name for name, _ in seconds)}
    span_seconds = max(1.0, (now - since).total_seconds())
    return [
        _measured(name, arrivals.get(name, {}), span_seconds, places.get(name, ()), seconds) for name in sorted(names)
    ]


def _measured(
    model: str,
    arrivals: Mapping[datetime, int],
    span_seconds: float,
    places: Iterable[NodeModel],
    seconds: "_Seconds",
) -> Measured:
    mine = {place_id: held for (name, place_id), held in seconds.items() if name == model}
    everywhere = [value for held in mine.values() for value in held]
    per_second = sum(arrivals.values()) / span_seconds
    return Measured(
        model,
        per_second=per_second,
        # A span that is shorter than BUSIEST_MINUTES is the busiest as a whole.
        busiest_per_second=max(per_second, _busiest(arrivals) / (60 * BUSIEST_MINUTES)),
        tasks=len(everywhere),
        service=_service(everywhere),
        places=[Place(place.node.name, place.node.slots, _service(mine.get(place.pk, ()))) for place in places],
    )


def _arrivals(tasks: QuerySet[AgentTask], since: datetime, now: datetime) -> dict[str, dict[datetime, int]]:
    """Count the tasks that needed a slot, by model and minute. An answer from the cache needs none."""
    needed = Q(granted_at__isnull=False) | Q(finished_at=None)
    rows = tasks.filter(needed, id__gte=uuid7_from(since), created_at__lte=now).order_by()
    by_minute = rows.values_list("model", TruncMinute("created_at")).annotate(Count("pk"))
    found: dict[str, dict[datetime, int]] = defaultdict(dict)
    for model, minute, number in by_minute:
        found[model][minute] = number
    return found


def _busiest(arrivals: Mapping[datetime, int]) -> int:
    """The most tasks that came within so many minutes in a row."""
    span = timedelta(minutes=BUSIEST_MINUTES)
    within: deque[tuple[datetime, int]] = deque()
    number = most = 0
    for minute, came in sorted(arrivals.items()):
        within.append((minute, came))
        number += came
        while within[0][0] <= minute - span:
            number -= within.popleft()[1]
        most = max(most, number)
    return most


def _places() -> dict[str, list[NodeModel]]:
    """The places where tasks may be started now."""
    found: dict[str, list[NodeModel]] = defaultdict(list)
    for place in NodeModel.objects.filter(is_available=True).select_related("node__breaker").order_by("node__name"):
        if place.node.takes_tasks:
            found[place.name].append(place)
    return found


_Seconds = dict[tuple[str, int], list[float]]


def _seconds_by_place(tasks: QuerySet[AgentTask], since: datetime, now: datetime) -> _Seconds:
    """For how long the latest tasks that ended held their slots, by model and place."""
    rows = tasks.filter(finished_at__gt=since, finished_at__lte=now).order_by("-finished_at")
    found: _Seconds = defaultdict(list)
    for model, place_id, granted_at, finished_at in rows.values_list(
        "model", "node_model_id", "granted_at", "finished_at"
    )[:SAMPLE]:
        if place_id and granted_at and finished_at:
            found[model, place_id].append(max(0.0, (finished_at - granted_at).total_seconds()))
    return found


def _service(seconds: Sequence[float]) -> Service | None:
    if not seconds:
        return None
    mean = sum(seconds) / len(seconds)
    if not mean:
        return None
    return Service(mean, math.sqrt(sum((value - mean) ** 2 for value in seconds) / len(seconds)))


def _mixture(parts: Iterable[tuple[Service, float]]) -> Service | None:
    """The times of tasks that come from several sources, each with a weight."""
    weighed = list(parts)
    total = sum(weight for _, weight in weighed)
    if not total:
        return None
    mean = sum(weight * part.mean for part, weight in weighed) / total
    square = sum(weight * (part.mean**2 + part.deviation**2) for part, weight in weighed) / total
    return Service(mean, math.sqrt(max(0.0, square - mean**2)))
