"""What a process tells of its pools, and what is read of all of them."""

import pytest
from django.conf import settings
from django.db import connection
from prometheus_client import Counter, Gauge

from core.net import places
from core.net.calls import Target
from core.net.places import Places
from core.ops import pool_use, pools
from core.ops.pool_use import ProcessUse
from core.ops.pools import Publisher

HERE = Target("http", "here", 80)


@pytest.fixture(autouse=True)
def nothing_told():
    """Forget what earlier tests told."""
    yield
    for metric in vars(pools).values():
        if isinstance(metric, Counter | Gauge) and metric._labelnames:
            metric.clear()


@pytest.fixture
def few(monkeypatch):
    """The places of model servers: two for each."""
    few = Places("ollama", limit=2, wait_seconds=5)
    monkeypatch.setattr(
        places, "places", lambda name: few if name == "ollama" else Places(name, limit=1, wait_seconds=1)
    )
    return few


def use_of(name: str) -> pool_use.PoolUse:
    return next(pool for pool in pool_use.of_the_group().pools if pool.name == name)


def test_what_a_process_tells_is_read(few):
    before = pool_use.of_the_group().http_requests
    publisher = Publisher("web")
    few.take(HERE, 0)
    few.take(Target("http", "there", 80), 0)
    few.count_connection_error()
    publisher.publish()
    pool = use_of("ollama")
    assert pool.processes == [ProcessUse("web", 0, limit=2, in_use=2, waiting=0, utilisation=0.5)]
    assert (pool.utilisation, pool.connection_errors, pool.waits) == (0.5, 1, 0)
    assert pool_use.of_the_group().http_requests == before + 2


def test_counts_grow_by_what_was_done_since(few):
    publisher = Publisher("web")
    before = pool_use.of_the_group().http_requests
    for _ in range(3):
        few.take(HERE, 0)
        few.give(HERE)
        publisher.publish()
        publisher.publish()
    assert pool_use.of_the_group().http_requests == before + 3


def test_who_waits_is_told(few):
    for _ in range(2):
        few.take(HERE, 0)
    with pytest.raises(TimeoutError):
        few.take(HERE, 0)
    Publisher("worker").publish()
    assert use_of("ollama").waits == 1
    assert use_of("ollama").utilisation == 1.0


def test_a_pool_is_as_full_as_in_the_process_where_it_is_fullest(few):
    Publisher("web").publish()
    few.take(HERE, 0)
    Publisher("worker").publish()
    assert [use.process for use in use_of("ollama").processes] == ["web", "worker"]
    assert use_of("ollama").utilisation == 0.5


@pytest.mark.django_db
@pytest.mark.both_databases
def test_statements_are_counted(django_user_model):
    publisher = Publisher("web")
    publisher.publish()
    before = pool_use.of_the_group().db_queries
    for _ in range(3):
        django_user_model.objects.count()
    publisher.publish()
    assert pool_use.of_the_group().db_queries == before + 3


def test_only_what_the_settings_name_is_there(settings):
    settings.REDIS_URL = ""
    assert {"ollama", "agents", "external"} <= {reading.name for reading in pools.readings()}
    assert "redis" not in {reading.name for reading in pools.readings()}


@pytest.mark.redis
def test_redis_is_there_where_it_is_configured(with_redis_pool):
    publisher = Publisher("web")
    publisher.publish()
    before = pool_use.of_the_group().redis_operations
    with_redis_pool.ping()
    with_redis_pool.pipeline().get("a").get("b").execute()
    publisher.publish()
    assert pool_use.of_the_group().redis_operations == before + 2
    assert use_of("redis").processes == [ProcessUse("web", 0, limit=3, in_use=0, waiting=0, utilisation=0.0)]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_the_database_is_there_where_it_has_a_pool():
    with connection.cursor():  # takes one
        reading = next((reading for reading in pools.readings() if reading.name == "database"), None)
    if connection.vendor == "sqlite":
        assert reading is None
    else:
        assert reading is not None
        assert reading.limit == settings.DATABASE_CONNECTIONS
        assert 1 <= reading.counters.in_use <= reading.limit
