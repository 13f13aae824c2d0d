"""Windows in Redis. Imported only where Redis is configured."""

import functools
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from limits.storage import RedisStorage
from redis import ConnectionPool
from redis.exceptions import RedisError

from core.access.limits.windows import Window
from core.ops import clock

ERRORS: tuple[type[Exception], ...] = (RedisError, OSError)


class RedisWindows(RedisStorage):
    """The storage of `limits`, asked for several keys, and for when their windows end."""

    PREFIX = "sutazai:limits"

    def hit(self, keys: Sequence[str], seconds: int, amount: int = 1) -> list[Window]:
        return [Window(self.incr(key, seconds, amount), self._end(key)) for key in keys]

    def look(self, keys: Sequence[str]) -> list[Window]:
        return [Window(self.get(key), self._end(key)) for key in keys]

    def _end(self, key: str) -> float:
        """To the millisecond; in whole seconds, as the library has it, a window would seem to end too soon."""
        redis: Any = self.get_connection()
        left: int = redis.pttl(self.prefixed_key(key))
        return clock.now().timestamp() + max(0, left) / 1000


def windows() -> RedisWindows:
    return _windows(get_redis_connection("default").connection_pool)


@functools.lru_cache(maxsize=1)
def _windows(pool: ConnectionPool) -> RedisWindows:
    return RedisWindows(settings.REDIS_URL, connection_pool=pool, key_prefix=RedisWindows.PREFIX)
