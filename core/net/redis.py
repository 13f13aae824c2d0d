"""Connections to Redis: the pool that django-redis and everybody who asks it shares, and single ones for probes; and
Django's cache, which does without Redis while it is away.

Imported only where Redis is used.
"""

import logging
import threading
import time
from typing import Any

from cachetools import cached
from django.core.cache.backends.locmem import LocMemCache
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool
from redis.exceptions import RedisError
from redis.retry import Retry

from core.net.places import Counters

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0  # while Redis is away it is asked only so often: asking may take as long as its timeout


class Pool(BlockingConnectionPool):
    """Waits while all connections are in use, and counts. Named in the settings of the cache.

    Every command takes a connection and gives it back, so those who take one are the operations; a pipeline is one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._counting = threading.Lock()
        self._operations = self._errors = self._waits = self._waiting = 0

    def get_connection(self, *args: Any, **options: Any) -> Any:
        has_to_wait = self.pool.empty()
        with self._counting:
            self._operations += 1
            self._waits += has_to_wait
            self._waiting += has_to_wait
        try:
            return super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            with self._counting:
                self._errors += 1
            raise
        finally:
            if has_to_wait:
                with self._counting:
                    self._waiting -= 1

    def counters(self) -> Counters:
        with self._counting:
            return Counters(
                requests=self._operations,
                connection_errors=self._errors,
                waits=self._waits,
                in_use=self.max_connections - self.pool.qsize(),
                waiting=self._waiting,
            )


class Cache(RedisCache):
    """Django's cache in Redis, and while that is away, in the memory of this process. Named in the settings.

    What it is asked for are conveniences, such as a dashboard that was put together a moment ago: no page may fail
    for want of them.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._memory = LocMemCache("redis-is-away", {})
        self._away_until = float("-inf")  # of the steady clock

    def get(self, *args: Any, **options: Any) -> Any:
        return self._ask("get", *args, **options)

    def set(self, *args: Any, **options: Any) -> Any:
        return self._ask("set", *args, **options)

    def add(self, *args: Any, **options: Any) -> Any:
        return self._ask("add", *args, **options)

    def delete(self, *args: Any, **options: Any) -> Any:
        return self._ask("delete", *args, **options)

    def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        if time.monotonic() >= self._away_until:
            try:
                return getattr(super(), method)(*args, **options)
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + PAUSE_SECONDS
                logger.warning("Redis is away; this process keeps pages in its memory: %s", error)
        return getattr(self._memory, method)(*args, **options)


def pool() -> Pool:
    """The process's pool, made when Django is ready; asking for it opens no connection."""
    found: Pool = get_redis_connection("default").connection_pool
    return found


@cached({}, lock=threading.Lock())
def single_connection(url: str, timeout_seconds: float) -> Redis:
    """One connection that is kept, and fails at once: a failure is an answer, not a reason to try again."""
    return Redis.from_url(
        url,
        socket_connect_timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        max_connections=1,
    )
