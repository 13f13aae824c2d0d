"""Level 1: what this process was asked for lately, within a limit of bytes.

It holds what was found in the store at least once, so that an answer that nobody repeats takes no room here.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import Cache, TLRUCache
from django.conf import settings

from core.cache import counts
from core.cache.entries import Stamp, size_of

# An entry may take so much of the room: one alone must not drive out all others.
LARGEST_SHARE = 8


@dataclass(slots=True)
class Copy:
    """An entry, its moments in seconds of the steady clock. checked_at: when its generations were the present ones."""

    value: bytes
    stamp: Stamp
    made_at: float
    ends_at: float
    checked_at: float


class _Copies(TLRUCache[str, Copy]):
    def popitem(self) -> tuple[str, Copy]:
        """Make room: the base class asks when a new entry needs it."""
        counts.evictions.labels("memory").inc()
        return super().popitem()

    def peek(self, key: str) -> Copy:
        """Look at a copy without having used it."""
        return Cache.__getitem__(self, key)


def _new_copies() -> _Copies:
    return _Copies(settings.CACHE_MEMORY_BYTES, ttu=_ends_at, getsizeof=_size)


def _ends_at(_key: str, copy: Copy, _now: float) -> float:
    return copy.ends_at


def _size(copy: Copy) -> int:
    return size_of("", copy.value)


class Memory:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies = _new_copies()

    def get(self, key: str) -> Copy | None:
        with self._lock:
            return self._copies.get(key)

    def keep(self, key: str, copy: Copy) -> None:
        if size_of(key, copy.value) * LARGEST_SHARE > self._copies.maxsize:
            return
        with self._lock:
            self._copies[key] = copy
            self._tell()
        counts.sets.labels("memory").inc()

    def drop_where(self, is_void: Callable[[Copy], bool]) -> None:
        with self._lock:
            for key in [key for key in self._copies if is_void(self._copies.peek(key))]:
                self._copies.pop(key, None)
            self._tell()

    def clear(self) -> None:
        """Begin anew, with the limits of the settings."""
        with self._lock:
            self._copies = _new_copies()
            self._tell()

    @property
    def limit_bytes(self) -> int:
        return int(self._copies.maxsize)

    def _tell(self) -> None:
        counts.memory_entries.set(len(self._copies))
        counts.memory_bytes.set(self._copies.currsize)


memory = Memory()
