"""The stores that a cache may have, and Redis servers that may be killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from core.cache import hits
from core.cache.stores import store
from tests.services.servers import Redis


@pytest.fixture(params=["database", pytest.param("redis", marks=pytest.mark.redis)])
def any_store(request: pytest.FixtureRequest) -> None:
    """The store of the database, which is a file of its own on SQLite, or Redis; empty."""
    if request.param == "redis":
        request.getfixturevalue("in_redis")
    else:
        empty()


@pytest.fixture(autouse=True)
def no_hits_noted() -> None:
    hits.take()


def empty() -> None:
    for keys in store().pages():
        store().drop(keys)


def counted(name: str, **labels: str) -> float:
    """What this process counted so far."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def own_redis(settings: pytest.FixtureRequest) -> Iterator[Redis]:
    """A Redis server for one test alone, which that may stop and kill."""
    # Started by root, the server's own user must get there.
    folder = Path(tempfile.mkdtemp(prefix="sutazai-redis-", dir="/tmp" if os.geteuid() == 0 else None))
    folder.chmod(0o755)
    server = Redis(folder)
    try:
        server.start()
        server.wait_until_ready()
        settings.REDIS_URL = server.url
        options = {"CONNECTION_POOL_KWARGS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}}
        backend = "django_redis.cache.RedisCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": server.url, "OPTIONS": options}}
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
