"""How long tasks wait for a slot, by the theory of queues: M/G/c.

Tasks come by chance at a steady rate (Poisson), in one line for all slots of a model, and take as long as they take.
Erlang's formula C tells how many have to wait; it is exact where the times that tasks take are exponential. For other
times Allen and Cunneen's approximation scales the wait by their variability, which is exact for one slot.
Source: A. O. Allen, Probability, Statistics, and Queueing Theory, second edition, 1990, sections 5.2.3 and 5.3.3.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

P95 = 0.95


@dataclass(frozen=True)
class Service:
    """How long a task holds its slot, in seconds: the mean and the standard deviation."""

    mean: float
    deviation: float

    @property
    def variability(self) -> float:
        """The squared coefficient of variation: 0 where all take equally long, 1 of exponential times."""
        return (self.deviation / self.mean) ** 2


@dataclass(frozen=True)
class Waiting:
    """A queue that comes to rest. probability: that a task has to wait at all. mean: seconds, over all tasks."""

    probability: float
    mean: float

    def within(self, share: float) -> float:
        """The seconds within which this share of the tasks has a slot."""
        late = 1 - share
        if self.probability <= late:
            return 0.0
        return self.mean / self.probability * math.log(self.probability / late)


def load(per_second: float, service: Service) -> float:
    """How many slots work at a time, on average (erlangs): with that many or fewer, the queue grows for ever."""
    return per_second * service.mean


def waiting(per_second: float, service: Service, slots: int) -> Waiting | None:
    """Tell how long tasks wait that come at a rate; None where more come than the slots can do."""
    offered = load(per_second, service)
    if offered >= slots:
        return None
    blocking = next(islice(_blocking(offered), slots - 1, None))
    return _waiting(offered, service, slots, blocking)


def slots_for(per_second: float, service: Service, *, seconds: float, share: float = P95) -> int:
    """The fewest slots with which this share of the tasks waits no longer than so many seconds."""
    offered = load(per_second, service)
    for slots, blocking in enumerate(_blocking(offered), start=1):
        if offered < slots and _waiting(offered, service, slots, blocking).within(share) <= seconds:
            return slots
    raise AssertionError("the wait gets shorter with every slot")


def _blocking(offered: float) -> Iterator[float]:
    """Erlang's formula B for one slot, two, and so on: how many would be turned away if nobody could wait."""
    blocking = 1.0
    slots = 0
    while True:
        slots += 1
        blocking = offered * blocking / (slots + offered * blocking)
        yield blocking


def _waiting(offered: float, service: Service, slots: int, blocking: float) -> Waiting:
    probability = slots * blocking / (slots - offered * (1 - blocking))
    exponential = probability * service.mean / (slots - offered)
    return Waiting(probability, exponential * (1 + service.variability) / 2)
