"""Windows in Redis. Imported only where Redis is configured."""

import functools
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from limits.storage import RedisStorage
from redis.exceptions import RedisError

from core.access.limits.windows import Window
from core.ops import clock

ERRORS: tuple[type[Exception], ...] = (RedisError, OSError)


# Counts for several keys, and tells when each window ends, in one trip: it is made with every request.
HIT = """
local answer = {}
for _, key in ipairs(KEYS) do
  local count = redis.call("INCRBY", key, ARGV[2])
  local left = redis.call("PTTL", key)
  if left < 0 then
    left = ARGV[1] * 1000
    redis.call("PEXPIRE", key, left)
  end
  table.insert(answer, count)
  table.insert(answer, left)
end
return answer
"""


class RedisWindows(RedisStorage):
    """The storage of `limits`, asked for several keys, and for when their windows end."""

    PREFIX = "sutazai:limits"

    @functools.cached_property
    def _hit(self) -> Any:
        return self.get_connection().register_script(HIT.encode())

    def hit(self, keys: Sequence[str], seconds: int, amount: int = 1) -> list[Window]:
        answer = self._hit(keys=[self.prefixed_key(key) for key in keys], args=[seconds, amount])
        now = clock.now().timestamp()
        return [Window(int(count), now + left / 1000) for count, left in zip(answer[::2], answer[1::2], strict=True)]

    def look(self, keys: Sequence[str]) -> list[Window]:
        return [Window(self.get(key), self._end(key)) for key in keys]

    def _end(self, key: str) -> float:
        """To the millisecond; in whole seconds, as the library has it, a window would seem to end too soon."""
        redis: Any = self.get_connection()
        left: int = redis.pttl(self.prefixed_key(key))
        return clock.now().timestamp() + max(0, left) / 1000


def windows() -> RedisWindows:
    return _windows(settings.REDIS_URL)


@functools.lru_cache(maxsize=1)
def _windows(url: str) -> RedisWindows:
    pool = get_redis_connection("default").connection_pool
    return RedisWindows(url, connection_pool=pool, key_prefix=RedisWindows.PREFIX)
