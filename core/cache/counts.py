"""What the cache counts, for all processes of the group (see `core.ops.metrics`)."""

from prometheus_client import Counter, Gauge

LOOKUPS = "sutazai_cache_lookups"
SETS = "sutazai_cache_sets"
EVICTIONS = "sutazai_cache_evictions"
INVALIDATIONS = "sutazai_cache_invalidations"
MEMORY_ENTRIES = "sutazai_cache_memory_entries"
MEMORY_BYTES = "sutazai_cache_memory_bytes"

_lookups = Counter(LOOKUPS, "Questions to a level of the cache; those it misses go to the next.", ["level", "result"])
sets = Counter(SETS, "Entries that a level of the cache took.", ["level"])
evictions = Counter(EVICTIONS, "Entries that a level of the cache dropped for want of room.", ["level"])
invalidations = Counter(INVALIDATIONS, "Tags of the cache that were invalidated.")
memory_entries = Gauge(MEMORY_ENTRIES, "Entries in the memory of processes.", multiprocess_mode="livesum")
memory_bytes = Gauge(MEMORY_BYTES, "Bytes that count against their limits.", multiprocess_mode="livesum")
degraded = Gauge(
    "sutazai_cache_degraded",
    "1 while a process cannot reach the store that all share.",
    multiprocess_mode="livemax",
)

memory_hit = _lookups.labels("memory", "hit")
memory_miss = _lookups.labels("memory", "miss")
shared_hit = _lookups.labels("shared", "hit")
shared_miss = _lookups.labels("shared", "miss")
