"""Level 2 as long as it answers, as this process sees it.

Once it does not, nobody asks it for a while, since asking may take as long as its timeouts. Before it is believed
again, it gets the invalidations that it missed.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.db import Error as DatabaseError
from django.utils import timezone

from core.cache import counts, invalidations
from core.cache.stores import Store, store
from core.ops import probes
from core.ops.probes import Finding, State

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0

Answer = TypeVar("Answer")


class Away(Exception):
    """The store does not answer."""

    def __str__(self) -> str:
        return "The cache's store is away."


@dataclass
class _Absence:
    since: datetime
    reason: str
    ask_again_at: float  # of the steady clock


class Shared:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._absence: _Absence | None = None

    @property
    def is_away(self) -> bool:
        return self._absence is not None

    @property
    def away_since(self) -> datetime | None:
        absence = self._absence
        return absence.since if absence else None

    def ask(self, question: Callable[[Store], Answer]) -> Answer:
        """Have the store answer. Raises Away."""
        if self._absence is not None and not self.try_again():
            raise Away
        asked = store()
        try:
            return question(asked)
        except asked.errors as error:
            self._note_absence(asked, error)
            raise Away from error

    def _note_absence(self, asked: Store, error: Exception) -> None:
        with self._lock:
            if self._absence is not None:
                return
            self._absence = _Absence(timezone.now(), str(error), time.monotonic() + PAUSE_SECONDS)
        counts.degraded.set(1)
        logger.warning("The cache's store (%s) is away; each process remembers for itself: %s", asked.label, error)

    def try_again(self, *, at_once: bool = False) -> bool:
        """Find out whether a store that was away is back, unless somebody tried a moment ago; True if it is there."""
        with self._lock:
            absence = self._absence
            if absence is None:
                return True
            if time.monotonic() < absence.ask_again_at and not at_once:
                return False
            absence.ask_again_at = time.monotonic() + PAUSE_SECONDS  # meanwhile nobody else waits for the same answer
        asked = store()
        errors: tuple[type[Exception], ...] = (*asked.errors, DatabaseError)
        try:
            asked.usage()
            invalidations.carry_out(asked)
        except errors as error:
            absence.reason = str(error)
            return False
        self.forget()
        logger.warning("The cache's store (%s) is back.", asked.label)
        self.ask(invalidations.carry_out)  # those that others announced in between, and left to us
        return True

    def forget(self) -> None:
        """Believe that the store answers."""
        with self._lock:
            self._absence = None
        counts.degraded.set(0)

    def finding(self) -> Finding:
        """What a probe tells of it, as this process sees it."""
        absence = self._absence
        if absence is None:
            return probes.UP
        return Finding(State.DEGRADED, "Each process remembers answers for itself.", absence.reason)


shared = Shared()
probes.register("cache", shared.finding)
