"""The response cache looked after: rid of what nobody finds any more, and warm."""

from collections.abc import Mapping

from core.cache import invalidations, upkeep
from core.cache.shared import shared
from core.models import CacheInvalidation
from core.ops import deletions, maintenance


def _figures() -> Mapping[str, int]:
    usage = shared.ask(lambda store: store.usage())
    return {"cache_entries": usage.entries, "cache_bytes": usage.bytes}


def _figures_of_sweep() -> Mapping[str, int]:
    return {**_figures(), "cache_invalidations": CacheInvalidation.objects.count()}


def _would_sweep() -> str:
    counts = [("entries", upkeep.sweepable()), ("old invalidations", invalidations.forgettable().count())]
    return f"It would delete {deletions.told(counts)}."


def _would_warm() -> str:
    return f"Each process would load up to {upkeep.warmable()} entries, as far as its memory has room for them."


@maintenance.job(
    "sweep_cache", "Delete what the cache gives out no more", figures=_figures_of_sweep, preview=_would_sweep
)
def sweep_cache() -> str:
    forgotten, _ = invalidations.forgettable().delete()
    return f"Deleted {deletions.told([('entries', upkeep.sweep()), ('old invalidations', forgotten)])}."


@maintenance.job(
    "warm_cache",
    "Have every process load the answers that are asked for most",
    figures=_figures,
    preview=_would_warm,
)
def warm_cache() -> str:
    upkeep.warm_everywhere()
    return f"Each process loads up to {upkeep.WARM_ENTRIES} entries within seconds."
