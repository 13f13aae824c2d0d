"""How long it takes until one's turn, from what is known of the places: an estimate, or nothing where nothing is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from agents.engine.statements import Place

# How soon to try again where nobody knows, and at most: after that long the world is another one.
USUAL_RETRY_SECONDS = 5
LONGEST_RETRY_SECONDS = 300


@dataclass(frozen=True)
class Outlook:
    """What a queue has before it: free slots, and how many of its tasks end in a second; None: nobody measured."""

    free: int
    tasks_per_second: float | None

    def wait_seconds(self, position: int) -> float | None:
        """How long whoever is at this position waits for a slot; None where nobody knows."""
        if position <= self.free:
            return 0.0
        return round((position - self.free) / self.tasks_per_second, 1) if self.tasks_per_second else None


def tasks_per_second(places: Iterable[Place]) -> float | None:
    """How many tasks end in a second at these places while all their slots are taken; None where nobody measured."""
    return sum(place.slots / place.service_seconds for place in places if place.service_seconds) or None


def retry_after(seconds: float | None) -> int:
    """When to come again, in whole seconds."""
    return USUAL_RETRY_SECONDS if seconds is None else min(LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))
