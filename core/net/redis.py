"""Connections to Redis: the pool that django-redis and everybody who asks it shares, and single ones for probes.

Imported only where Redis is used.
"""

import functools
import threading
from typing import Any

from django_redis import get_redis_connection
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool
from redis.exceptions import RedisError
from redis.retry import Retry

from core.net.places import Counters


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


def pool() -> Pool:
    """The process's pool; asking for it opens no connection."""
    found: Pool = get_redis_connection("default").connection_pool
    return found


@functools.cache
def single_connection(url: str, timeout_seconds: float) -> Redis:
    """One connection that is kept, and fails at once: a failure is an answer, not a reason to try again."""
    return Redis.from_url(
        url,
        socket_connect_timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        max_connections=1,
    )
