"""What is done for the cache beside answering: by a thread of each process that serves, and by maintenance jobs."""

import functools
import threading
import time
from collections.abc import Iterator

from django.db import connection

from core.cache import hits, invalidations
from core.cache.entries import EVERYTHING, WARMING, Row, Stamp, new_generation
from core.cache.memory import Copy, memory
from core.cache.shared import Away, shared
from core.cache.stores import Store
from core.ops import threads

ROUND_SECONDS = 2.0
TELL_HITS_SECONDS = 10.0
WARM_ENTRIES = 1000

_wake = threading.Event()
_sweep_wanted = threading.Event()


@functools.cache
def start() -> threading.Thread:
    """Look after the cache for as long as this process lives; does nothing the second time."""
    return threads.start_endless("cache-upkeep", _Upkeep().round)


def sweep_soon() -> None:
    """Have the thread of this process sweep, if it has one; else the hourly job does."""
    _sweep_wanted.set()
    _wake.set()


class _Upkeep:
    def __init__(self) -> None:
        self._hits_told_at = time.monotonic()
        self._warmed = ""  # the generation of WARMING at the last time

    def round(self) -> None:
        """Do what is to be done, then wait until there may be more."""
        try:
            if not shared.is_away or shared.try_again(at_once=True):
                self._look_after()
        except Away:
            pass
        if connection.vendor != "sqlite":
            connection.close()  # back to the pool until the next round
        _wake.wait(ROUND_SECONDS)
        _wake.clear()

    def _look_after(self) -> None:
        if shared.ask(invalidations.carry_out):
            _sweep_wanted.set()
        if time.monotonic() - self._hits_told_at > TELL_HITS_SECONDS:
            tell_hits()
            self._hits_told_at = time.monotonic()
        wanted = shared.ask(lambda store: store.look("", (EVERYTHING, WARMING), "")).generations
        if wanted != self._warmed:
            warm()
            self._warmed = wanted
        if _sweep_wanted.is_set():
            _sweep_wanted.clear()
            sweep()


def tell_hits() -> None:
    """Tell the store what was found in this process. Raises Away; then that is forgotten."""
    if found := hits.take():
        shared.ask(lambda store: store.note_hits(found))


def warm() -> int:
    """Load into memory, up to half of it, what is asked for most; returns how many entries. Raises Away."""
    return shared.ask(_warm)


def _warm(store: Store) -> int:
    loaded = 0
    for row in reversed(_fitting(store.rows(store.most_used(WARM_ENTRIES)), memory.limit_bytes / 2)):
        now = time.monotonic()
        found = store.look(row.key, row.tags, "")
        if found.value is not None:
            stamp = Stamp(row.tags, found.generations, now)
            memory.keep(row.key, Copy(found.value, stamp, now - found.age_seconds, now + found.seconds_left, now))
            loaded += 1
    return loaded


def _fitting(rows: list[Row], limit_bytes: float) -> list[Row]:
    fitting = []
    for row in rows:
        limit_bytes -= row.size
        if limit_bytes < 0:
            break
        fitting.append(row)
    return fitting


def warm_everywhere() -> None:
    """Have every process `warm`, soon. Raises Away."""
    shared.ask(lambda store: store.renew({WARMING: new_generation()}))


def sweep() -> int:
    """Delete entries that nobody finds any more, void or ended; returns how many. Raises Away."""
    return shared.ask(_sweep)


def sweepable() -> int:
    """Count what `sweep` would delete. Raises Away."""
    return shared.ask(lambda store: sum(map(len, _gone(store))))


def warmable() -> int:
    """Count the entries that a process would load to be warm, as far as its memory has room for them. Raises Away."""
    return shared.ask(lambda store: len(store.most_used(WARM_ENTRIES)))


def _sweep(store: Store) -> int:
    swept = 0
    for gone in _gone(store):
        store.drop(gone)
        swept += len(gone)
    return swept


def _gone(store: Store) -> Iterator[list[str]]:
    """Find what nobody finds any more, page by page."""
    for keys in store.pages():
        found = {row.key for row in valid(store, store.rows(keys))}
        yield [key for key in keys if key not in found]


def valid(store: Store, rows: list[Row]) -> list[Row]:
    """Those that were made under the present generations."""
    tags = (EVERYTHING, *sorted({tag for row in rows for tag in row.tags} - {EVERYTHING}))
    present = dict(zip(tags, store.look("", tags, "").generations.split("."), strict=True))
    return [row for row in rows if row.generations == ".".join(present[tag] for tag in row.tags)]
