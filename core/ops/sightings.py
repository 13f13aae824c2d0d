"""What was seen on the way, such as when a key was used last: gathered in memory, and written down a moment later.

A request that only reads must not wait for whoever writes to the database, nor fail where its disk is full. A process
that is killed loses the sightings of a second.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0

Key = TypeVar("Key")
Value = TypeVar("Value")

_kinds: "list[Sightings[Any, Any]]" = []


class Sightings(Generic[Key, Value]):
    """Sightings of one kind, the last one of each key. write: writes one down."""

    def __init__(self, write: Callable[[Key, Value], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: dict[Key, Value] = {}
        _kinds.append(self)

    def note(self, key: Key, value: Value) -> None:
        with self._lock:
            self._waiting[key] = value

    def flush(self) -> int:
        """Write down what was gathered; returns how many. What cannot be written now waits for the next time."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        written = 0
        for key, value in waiting.items():
            try:
                self._write(key, value)
                written += 1
            except (OperationalError, InterfaceError):
                with self._lock:
                    self._waiting = {**waiting, **self._waiting}
                raise
            except DatabaseError as error:  # what it was about is gone meanwhile
                logger.info("A sighting was dropped: %s", error)
        return written

    def forget(self) -> None:
        """Begin with nothing seen, as tests do."""
        with self._lock:
            self._waiting = {}


def flush() -> int:
    """Write down what was gathered of every kind; returns how many. Raises OperationalError and InterfaceError."""
    return sum(kind.flush() for kind in _kinds)


def forget() -> None:
    for kind in _kinds:
        kind.forget()


@functools.cache
def start() -> threading.Thread:
    """Write down for as long as this process lives; does nothing the second time."""
    return start_endless("sightings", _round)


def stop() -> None:
    """Write down what is left, before the process ends."""
    try:
        flush()
    except (OperationalError, InterfaceError) as error:
        logger.warning("What was seen last is not written down: %s", error)


def _round() -> None:
    time.sleep(ROUND_SECONDS)
    if flush() and connection.vendor != "sqlite":
        connection.close()  # back to the pool until the next round
