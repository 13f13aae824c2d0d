"""The pool of connections to Redis."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django_redis.cache import RedisCache
from redis.exceptions import ConnectionError as RedisConnectionError

from core.net import redis
from core.net.redis import Cache, Pool
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


def test_it_is_there_before_any_thread_asks_for_it():
    """Threads that asked first at the same time would each have one, of which all but one are counted by nobody."""
    look = "import django; django.setup(); from django_redis.pool import ConnectionFactory as F; print(len(F._pools))"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "sutazai.settings",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_the_cache_is_in_redis_for_all_processes(redis_url):
    one, other = (Cache(redis_url, {}) for _ in range(2))
    one.set("name", {"a": 1}, 60)
    assert other.get("name") == {"a": 1}
    assert not other.add("name", 2, 60)
    other.delete("name")
    assert one.get("name", "nothing") == "nothing"


def test_the_cache_does_without_redis_while_that_is_away(caplog):
    cache = Cache(f"redis://127.0.0.1:{free_port()}/0", {})
    assert cache.get("name", "nothing") == "nothing"
    assert "Redis is away" in caplog.text
    cache.set("name", {"a": 1}, 60)
    assert cache.get("name") == {"a": 1}
    assert not cache.add("name", 2, 60)
    cache.delete("name")
    assert cache.add("name", 2, 60)


def test_the_cache_asks_redis_again_after_a_while(redis_url, monkeypatch):
    cache = Cache(redis_url, {})
    with monkeypatch.context() as patch:
        patch.setattr(RedisCache, "get", lambda *_: (_ for _ in ()).throw(RedisConnectionError("away")))
        assert cache.get("other") is None
    cache.set("other", 1, 60)
    assert Cache(redis_url, {}).get("other") is None
    cache._away_until = 0.0  # what the time does
    cache.set("other", 2, 60)
    assert Cache(redis_url, {}).get("other") == 2
    cache.delete("other")
