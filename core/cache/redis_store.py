"""Level 2 in Redis. Imported only where Redis is configured.

A server that was restarted may have got older generations back from its disk. So each look compares the server's run
with the one that the generations belong to, in the same trip (4 µs), and ends all of them if it is another.

The limit of bytes is kept by our own accounts, exactly: whatever else Redis holds, such as a broker's messages, must
not be evicted for answers that can be made again.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import OutOfMemoryError, RedisError

from core.cache.entries import BATCH, MAX_TTL_SECONDS, Found, Row, Stamp, Usage, new_generation, size_of

PREFIX = "sutazai:cache:"
ENTRY = f"{PREFIX}entry:"
GENERATION = f"{PREFIX}generation:"
RUN = f"{PREFIX}run"
# Bytes of each entry that was not dropped yet, those of all, and when and how often each was used.
SIZES, BYTES, USED, HITS = (f"{PREFIX}{name}" for name in ("sizes", "bytes", "used", "hits"))
ACCOUNTS = (SIZES, BYTES, USED, HITS)
# An entry is one text, which takes a third less than a hash: lines with its generations, the moment when it was made
# (milliseconds of the server's clock) and its tags; then its value.
HEADER_BYTES = 8192  # more than the longest lines

# KEYS: run, entry, generations (that of everything first). ARGV: a new generation, its seconds, the known generations.
LOOK = """
local run = string.match(redis.call("INFO", "server"), "run_id:(%x+)")
if redis.call("GET", KEYS[1]) ~= run then
  redis.call("SET", KEYS[1], run)
  redis.call("SET", KEYS[3], ARGV[1], "EX", ARGV[2])
end
local found = redis.call("MGET", unpack(KEYS, 3))
for at, generation in ipairs(found) do
  if not generation then
    found[at] = ARGV[1]
    redis.call("SET", KEYS[at + 2], ARGV[1], "EX", ARGV[2])
  end
end
local present = table.concat(found, ".")
if present == ARGV[3] then return {present} end
local entry = redis.call("GET", KEYS[2])
if not entry or string.sub(entry, 1, #present + 1) ~= present .. "\\n" then return {present} end
local made, start = string.match(entry, "^(%d+)\\n[^\\n]*\\n()", #present + 2)
local now = redis.call("TIME")
local age = now[1] * 1000 + math.floor(now[2] / 1000) - made
return {present, string.sub(entry, start), age, redis.call("PTTL", KEYS[2])}
"""

# The accounts as KEYS, and the prefix of entries as the first ARGV, of all that follow.
_ACCOUNTS = """
local sizes, bytes, used, hits = unpack(KEYS)
local function now()
  local moment = redis.call("TIME")
  return moment[1] * 1000 + math.floor(moment[2] / 1000)
end
local function strike(key)
  local size = redis.call("HGET", sizes, key)
  if size then redis.call("DECRBY", bytes, size) end
  redis.call("HDEL", sizes, key)
  redis.call("ZREM", used, key)
end
local function drop(key)
  strike(key)
  redis.call("ZREM", hits, key)
  redis.call("UNLINK", ARGV[1] .. key)
end
"""

PUT = f"""{_ACCOUNTS}
local prefix, key, generations, tags, value, size, ttl, limit = unpack(ARGV)
local moment = now()
local header = string.format("%s\\n%.0f\\n%s\\n", generations, moment, tags)
redis.call("SET", prefix .. key, header .. value, "PX", ttl)  -- first: a server without room refuses no later write
strike(key)
redis.call("HSET", sizes, key, size)
redis.call("ZADD", used, moment, key)
redis.call("INCRBY", bytes, size)
local evicted = 0
while tonumber(redis.call("GET", bytes)) > tonumber(limit) do
  local least_used = redis.call("ZRANGE", used, 0, 0)[1]
  if not least_used then redis.call("SET", bytes, 0) break end  -- the server evicted a part of the accounts
  drop(least_used)
  evicted = evicted + 1
end
return evicted
"""

DROP = f"""{_ACCOUNTS}
for at = 2, #ARGV do drop(ARGV[at]) end
"""

# ARGV: keys and how often each was hit.
NOTE = f"""{_ACCOUNTS}
for at = 2, #ARGV, 2 do
  if redis.call("HEXISTS", sizes, ARGV[at]) == 1 then
    redis.call("ZINCRBY", hits, ARGV[at + 1], ARGV[at])
    redis.call("ZADD", used, now(), ARGV[at])
  end
end
"""

USAGE = f"""{_ACCOUNTS}
return {{redis.call("ZCARD", used), redis.call("GET", bytes) or 0}}
"""


class RedisStore:
    label = "Redis"
    errors: tuple[type[Exception], ...] = (RedisError, OSError)

    def __init__(self, url: str) -> None:
        self.name = f"redis:{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        self._redis: Any = get_redis_connection("default")
        scripts = (LOOK, PUT, DROP, NOTE, USAGE)
        self._look, self._put, self._drop, self._note, self._usage = map(self._redis.register_script, scripts)

    def look(self, key: str, tags: Sequence[str], known: str) -> Found:
        args = [new_generation(), MAX_TTL_SECONDS, known]
        present, *entry = self._look(keys=[RUN, ENTRY + key, *_generation_keys(tuple(tags))], args=args)
        if not entry:
            return Found(present.decode())
        value, age, left = entry
        return Found(present.decode(), value, age / 1000, left / 1000)

    def put(self, key: str, value: bytes, stamp: Stamp, ttl_seconds: float) -> int | None:
        tags, milliseconds = json.dumps(stamp.tags, ensure_ascii=False), max(1, int(ttl_seconds * 1000))
        limits = [size_of(key, value), milliseconds, settings.CACHE_SHARED_BYTES]
        try:
            evicted: int = self._put(keys=ACCOUNTS, args=[ENTRY, key, stamp.generations, tags, value, *limits])
        except OutOfMemoryError:  # by the server's own limit; what it has is still found
            return None
        return evicted

    def renew(self, generations: Mapping[str, str]) -> None:
        trip = self._redis.pipeline(transaction=False)
        for tag, generation in generations.items():
            trip.set(GENERATION + tag, generation, ex=MAX_TTL_SECONDS)
        trip.execute()

    def note_hits(self, hits: Mapping[str, int]) -> None:
        self._note(keys=ACCOUNTS, args=[ENTRY, *(part for pair in hits.items() for part in pair)])

    def most_used(self, count: int) -> list[str]:
        return [key.decode() for key in self._redis.zrevrange(HITS, 0, count - 1)]

    def pages(self) -> Iterator[list[str]]:
        cursor = None
        while cursor != 0:
            cursor, found = self._redis.zscan(USED, cursor or 0, count=BATCH)
            yield [key.decode() for key, _ in found]

    def rows(self, keys: Sequence[str]) -> list[Row]:
        trip = self._redis.pipeline(transaction=False)
        trip.time()
        for key in keys:
            trip.getrange(ENTRY + key, 0, HEADER_BYTES - 1)
            trip.hget(SIZES, key)
            trip.zscore(HITS, key)
            trip.pttl(ENTRY + key)
        (seconds, microseconds), *answers = trip.execute()
        now = seconds + microseconds / 1e6
        rows = []
        for at, key in enumerate(keys):
            entry, size, hits, left = answers[4 * at : 4 * at + 4]
            if entry and size is not None:
                generations, made, tags, _ = entry.split(b"\n", 3)
                age = now - int(made) / 1000
                described = tuple(json.loads(tags)), generations.decode()
                rows.append(Row(key, *described, int(size), int(hits or 0), age, left / 1000))
        return rows

    def drop(self, keys: Sequence[str]) -> None:
        self._drop(keys=ACCOUNTS, args=[ENTRY, *keys])

    def usage(self) -> Usage:
        entries, size = self._usage(keys=ACCOUNTS, args=[ENTRY])
        return Usage(entries, int(size))


@functools.lru_cache(maxsize=4096)
def _generation_keys(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(GENERATION + tag for tag in tags)


@functools.lru_cache(maxsize=1)
def store(url: str) -> RedisStore:
    return RedisStore(url)
