"""The pool of connections to Redis."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from core.net import redis
from core.net.redis import Pool
from tests.services.server import free_port

pytestmark = pytest.mark.redis


def test_more_callers_than_connections_wait_instead_of_failing(with_redis_pool):
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda number: with_redis_pool.echo(str(number)), range(200)))
    assert answers == [str(number).encode() for number in range(200)]
    counters = redis.pool().counters()
    assert (counters.requests, counters.in_use, counters.waiting, counters.connection_errors) == (200, 0, 0, 0)
    assert counters.waits > 0
    assert len(redis.pool()._connections) <= 3


def test_who_waits_too_long_is_told(with_redis_pool, wait_until):
    pool = redis.pool()
    pool.timeout = 0.1
    held = [pool.get_connection() for _ in range(3)]
    assert pool.counters().in_use == 3
    with pytest.raises(RedisConnectionError, match="No connection"):
        with_redis_pool.ping()
    assert (pool.counters().waits, pool.counters().connection_errors) == (1, 1)
    pool.timeout = 20
    waiting = threading.Thread(target=with_redis_pool.ping)
    waiting.start()
    wait_until(lambda: pool.counters().waiting == 1)
    for connection in held:
        pool.release(connection)
    waiting.join(10)
    assert (pool.counters().waiting, pool.counters().in_use) == (0, 0)


def test_a_server_that_is_away_is_counted():
    pool = Pool.from_url(f"redis://127.0.0.1:{free_port()}", max_connections=1, timeout=1)
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            pool.get_connection()
    assert (pool.counters().connection_errors, pool.counters().in_use) == (2, 0)


def test_the_settings_make_it_the_pool_of_the_cache(with_redis_pool):
    assert isinstance(redis.pool(), Pool)
    assert with_redis_pool.connection_pool is redis.pool()
