"""The response cache: bytes under a key, kept in this process (level 1) and in a store that all share (level 2).

    found = cache.get(key, tags)
    if isinstance(found, cache.Stamp):                  # nothing there
        value = make()
        cache.put(key, value, found, ttl_seconds=3600)

Whoever calls puts the tenant into the key, and everything else that the value depends on. Values are opaque here, and
nothing is ever unpickled. No function raises when a store is away: there is less to find then.

- `answers`: get, put, invalidate: the way through both levels. `memory`: level 1.
- `stores`, `redis_store`, `sql_store`: level 2. `shared`: level 2 as long as it answers.
- `invalidations`: how tags invalidate, at once and in every process.
- `upkeep`: what each process does beside. `figures`: what can be told of all this. `steering`: what operators do.
"""

from core.cache.answers import clear, get, invalidate, put, stamp
from core.cache.entries import Hit, Level, Stamp
from core.cache.upkeep import start

__all__ = ["Hit", "Level", "Stamp", "clear", "get", "invalidate", "put", "stamp", "start"]
