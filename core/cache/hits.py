"""How often entries are found, gathered in this process until the keeper tells the store."""

import threading
from collections import Counter

# Of entries between two tellings; others are not counted. It only has to be known which are asked for most.
MAX_KEYS = 10_000

_lock = threading.Lock()
_hits: Counter[str] = Counter()


def note(key: str) -> None:
    with _lock:
        if key in _hits or len(_hits) < MAX_KEYS:
            _hits[key] += 1


def take() -> dict[str, int]:
    """What was gathered since the last time."""
    global _hits
    with _lock:
        taken, _hits = _hits, Counter()
    return taken
