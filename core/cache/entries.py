"""What passes between the levels of the cache."""

import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

# Every entry has this tag, as its first; to invalidate it is to clear the cache.
EVERYTHING = "*"
# No entry has this one; its generation changes when every process should load what is asked for most.
WARMING = "*warming"
# No entry lives longer, and no generation: what a store that was out of use still holds after that is void.
MAX_TTL_SECONDS = 30 * 24 * 3600
MAX_KEY_CHARACTERS = 200
MAX_TAG_CHARACTERS = 100
MAX_TAGS = 10
# What an entry costs beside its key and value. Measured with keys of 100 characters: 0.7 kB in a process's memory, 0.8
# in the file, 0.9 in Redis.
OVERHEAD_BYTES = 1000
BATCH = 500  # entries for each question to a store, so that others get their turn in between


class Level(enum.StrEnum):
    MEMORY = "memory"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Hit:
    value: bytes
    level: Level
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Stamp:
    """The generations of an entry's tags before its making began: once one of them ends, the entry is void.

    generations: empty where the store was away. taken_at: seconds of the steady clock.
    """

    tags: tuple[str, ...]
    generations: str
    taken_at: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a store answers: the present generations, and the value if it was made under them."""

    generations: str
    value: bytes | None = None
    age_seconds: float = 0
    seconds_left: float = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of an entry besides its value."""

    key: str
    tags: tuple[str, ...]
    generations: str
    size: int
    hits: int
    age_seconds: float
    seconds_left: float

    @property
    def value_bytes(self) -> int:
        return self.size - size_of(self.key, b"")


@dataclass(frozen=True, slots=True)
class Usage:
    """entries: those whose time is over too, until they are swept. bytes: what counts against the limit."""

    entries: int
    bytes: int


def new_generation() -> str:
    """A name that nobody has used: one that is lost and made anew never equals what entries were made under."""
    return os.urandom(8).hex()


def all_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in the one order in which generations are written down. Raises ValueError."""
    return _all_tags(tuple(tags))


@lru_cache(maxsize=4096)
def _all_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    wanted = sorted(set(tags))
    if len(wanted) > MAX_TAGS or not all(map(is_tag, wanted)):
        raise ValueError(f"These cannot be tags: {', '.join(map(repr, wanted))}.")
    return (EVERYTHING, *wanted)


def is_tag(text: str) -> bool:
    return 0 < len(text) <= MAX_TAG_CHARACTERS and text.isprintable() and not text.startswith(EVERYTHING)


def check_key(key: str) -> None:
    """Raises ValueError."""
    if not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise ValueError(f"{key!r} cannot be a key.")


def size_of(key: str, value: bytes) -> int:
    """What an entry counts for against the limits of either level."""
    return len(key) + len(value) + OVERHEAD_BYTES
