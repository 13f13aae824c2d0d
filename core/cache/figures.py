"""What the cache can tell of itself: in the API, the console and metrics."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.cache import counts, upkeep
from core.cache.entries import Row, Usage
from core.cache.shared import Away, shared
from core.cache.stores import store
from core.ops import metrics
from core.ops.metrics import Totals


@dataclass(frozen=True)
class LevelFigures:
    """A level of the cache. entries, bytes: None where nobody can tell. Counts are of all processes of the group."""

    entries: int | None
    bytes: int | None
    limit_bytes: int
    hits: int
    misses: int
    sets: int
    evictions: int


@dataclass(frozen=True)
class Figures:
    """hit_ratio: of all questions so far, in any level; None before the first. store: which one level 2 is."""

    store: str
    is_degraded: bool
    degraded_since: datetime | None
    hit_ratio: float | None
    invalidations: int
    memory: LevelFigures
    shared: LevelFigures


def figures() -> Figures:
    totals = metrics.totals()
    used = _usage()
    return Figures(
        store=store().label,
        is_degraded=shared.is_away,
        degraded_since=shared.away_since,
        hit_ratio=_hit_ratio(totals),
        invalidations=int(totals.sum(f"{counts.INVALIDATIONS}_total")),
        memory=_level(
            totals,
            "memory",
            int(totals.sum(counts.MEMORY_ENTRIES)),
            int(totals.sum(counts.MEMORY_BYTES)),
            settings.CACHE_MEMORY_BYTES,
        ),
        shared=_level(
            totals,
            "shared",
            used.entries if used else None,
            used.bytes if used else None,
            settings.CACHE_SHARED_BYTES,
        ),
    )


def most_used(count: int) -> list[Row]:
    """The entries that were found most often, of those that can still be found; none while the store is away."""
    try:
        return shared.ask(lambda store: upkeep.valid(store, store.rows(store.most_used(count))))
    except Away:
        return []


def entry(key: str) -> tuple[Row, bytes] | None:
    """An entry and its value, if it can be found."""
    try:
        rows = shared.ask(lambda store: store.rows([key]))
        value = shared.ask(lambda store: store.look(key, rows[0].tags, "").value) if rows else None
    except Away:
        return None
    return None if value is None else (rows[0], value)


def _usage() -> Usage | None:
    try:
        return shared.ask(lambda store: store.usage())
    except Away:
        return None


def _level(totals: Totals, level: str, entries: int | None, size: int | None, limit_bytes: int) -> LevelFigures:
    def total(name: str, **labels: str) -> int:
        return int(totals.sum(f"{name}_total", level=level, **labels))

    return LevelFigures(
        entries=entries,
        bytes=size,
        limit_bytes=limit_bytes,
        hits=total(counts.LOOKUPS, result="hit"),
        misses=total(counts.LOOKUPS, result="miss"),
        sets=total(counts.SETS),
        evictions=total(counts.EVICTIONS),
    )


def _hit_ratio(totals: Totals) -> float | None:
    """What one level misses is asked of the next, so that the first is asked everything."""
    hits = totals.sum(f"{counts.LOOKUPS}_total", result="hit")
    asked = totals.sum(f"{counts.LOOKUPS}_total", level="memory")
    return hits / asked if asked else None


@metrics.register
def store_metrics() -> Iterator[Metric]:
    if used := _usage():
        yield GaugeMetricFamily("sutazai_cache_shared_entries", "Entries in the store of the cache.", used.entries)
        yield GaugeMetricFamily("sutazai_cache_shared_bytes", "Bytes that count against its limit.", used.bytes)


@metrics.derive
def ratio(totals: Totals) -> Iterator[Metric]:
    found = _hit_ratio(totals)
    yield GaugeMetricFamily(
        "cache_hit_ratio",
        "Questions to the cache that it answered, of all so far; not a number before the first.",
        float("nan") if found is None else found,
    )
