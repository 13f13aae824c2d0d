"""The way through both levels."""

import time
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction

from core.cache import counts, hits, invalidations, upkeep
from core.cache.entries import EVERYTHING, MAX_TTL_SECONDS, Hit, Level, Stamp, all_tags, check_key, is_tag
from core.cache.memory import Copy, memory
from core.cache.shared import Away, shared
from core.cache.stores import largest_value_bytes

# While the store is away, a copy is given out for so long after it was last compared with the store.
TRUST_SECONDS = 30.0


def get(key: str, tags: Iterable[str]) -> Hit | Stamp:
    """Find what was put under a key; or else the stamp with which to put what is made instead, from now on.

    tags: all that can invalidate the entry, the same each time. Raises ValueError for what can be no key or tag.
    """
    check_key(key)
    wanted, now = all_tags(tags), time.monotonic()
    copy = memory.get(key)
    known = copy.stamp.generations if copy is not None and copy.stamp.tags == wanted else ""
    try:
        found = shared.ask(lambda store: store.look(key, wanted, known))
    except Away:
        return _get_alone(key, copy, Stamp(wanted, "", now))
    if copy is not None and found.generations == known:
        copy.checked_at = now
        return _found_in_memory(key, copy, now)
    counts.memory_miss.inc()
    stamp = Stamp(wanted, found.generations, now)
    if found.value is None:
        counts.shared_miss.inc()
        return stamp
    counts.shared_hit.inc()
    hits.note(key)
    memory.keep(key, Copy(found.value, stamp, now - found.age_seconds, now + found.seconds_left, now))
    return Hit(found.value, Level.SHARED, found.age_seconds)


def _get_alone(key: str, copy: Copy | None, stamp: Stamp) -> Hit | Stamp:
    """Do without the store: give out a copy that was good a moment ago."""
    now = stamp.taken_at
    if copy is not None and copy.stamp.tags == stamp.tags and now - copy.checked_at < TRUST_SECONDS:
        since = shared.away_since
        if since and not invalidations.may_be_missed(stamp.tags, since - timedelta(seconds=TRUST_SECONDS)):
            return _found_in_memory(key, copy, now)
    counts.memory_miss.inc()
    return stamp


def _found_in_memory(key: str, copy: Copy, now: float) -> Hit:
    counts.memory_hit.inc()
    hits.note(key)
    return Hit(copy.value, Level.MEMORY, now - copy.made_at)


def stamp(tags: Iterable[str]) -> Stamp:
    """What to put an entry with whose making begins now; where `get` was asked in another process."""
    wanted, now = all_tags(tags), time.monotonic()
    try:
        return Stamp(wanted, shared.ask(lambda store: store.look("", wanted, "")).generations, now)
    except Away:
        return Stamp(wanted, "", now)


def put(key: str, value: bytes, stamp: Stamp, *, ttl_seconds: float) -> None:
    """Keep what was made since the stamp was taken. It is void if one of its tags has been invalidated since then.

    A value larger than SUTAZAI_CACHE_VALUE_BYTES is not kept. Raises ValueError for what can be no key.
    """
    check_key(key)
    ttl_seconds = min(ttl_seconds, MAX_TTL_SECONDS)
    if len(value) > largest_value_bytes() or ttl_seconds <= 0:
        return
    if stamp.generations:
        try:
            evicted = shared.ask(lambda store: store.put(key, value, stamp, ttl_seconds))
        except Away:
            pass
        else:
            if evicted is not None:
                counts.sets.labels("shared").inc()
                counts.evictions.labels("shared").inc(evicted)
            return
    now = time.monotonic()
    memory.keep(key, Copy(value, stamp, now, now + ttl_seconds, stamp.taken_at))


def invalidate(*tags: str) -> None:
    """Have nothing found any more that was made, or began to be made, with one of these tags.

    It is part of the caller's transaction. Once that is committed it holds at once in every process, and as soon as
    the store is back where it is away. Raises ValueError for what can be no tag.
    """
    if not all(map(is_tag, tags)):
        raise ValueError(f"These cannot be tags: {', '.join(map(repr, tags))}.")
    _invalidate(tags)


def clear() -> None:
    """Have nothing found any more. See `invalidate`."""
    _invalidate((EVERYTHING,))


def _invalidate(tags: tuple[str, ...]) -> None:
    invalidations.announce(tags)
    counts.invalidations.inc(len(tags))
    transaction.on_commit(lambda: _carry_out(frozenset(tags)), robust=True)


def _carry_out(tags: frozenset[str]) -> None:
    memory.drop_where(lambda copy: not tags.isdisjoint(copy.stamp.tags))
    try:
        shared.ask(invalidations.carry_out)
    except Away:
        return
    upkeep.sweep_soon()
