"""What every test may use, and which tests wait for a server that is not there.

`make unit` starts the servers (see tests/services) and names them in the environment.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext
from django_redis import get_redis_connection
from django_redis.pool import ConnectionFactory
from pytest_django import DjangoDbBlocker
from redis import Redis

from core.ops import clock
from tests import audit_triggers, emptying, queries, remembered
from tests.program import PATIENCE_SECONDS
from tests.services import SERVICE_VARIABLES

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", action="store_true", help="write tests/security/access_matrix.csv again")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, variable in SERVICE_VARIABLES.items():
        if item.get_closest_marker(marker) and not os.environ.get(variable):
            reason = f"{variable} is not set: run it through `make unit` or `python -m tests.services run -- pytest`"
            if IN_CI:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let tests empty the audit log after themselves, which it refuses with good reason.

    Let PostgreSQL drop the test database although threads of the tests still hold connections to it.
    """
    with django_db_blocker.unblock():
        audit_triggers.lift()
    emptying.install()
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """Begin with the rows of the test alone, whatever the process has learnt from those of the last one."""
    remembered.forget()


@pytest.fixture
def django_assert_num_queries() -> Callable[[int], AbstractContextManager[CaptureQueriesContext]]:
    """That of pytest-django, but for the statements of the clock."""
    return queries.exactly


@pytest.fixture
def django_assert_max_num_queries() -> Callable[[int], AbstractContextManager[CaptureQueriesContext]]:
    """The same for a number that may not be exceeded."""
    return queries.at_most


def _service_url(marker: str) -> str:
    return os.environ[SERVICE_VARIABLES[marker]]


@pytest.fixture
def redis_url() -> str:
    """A real Redis server, shared by all tests of the run."""
    return _service_url("redis")


@pytest.fixture
def in_redis(settings: pytest.FixtureRequest, redis_url: str) -> Iterator[None]:
    """Keep in a real, empty Redis what is kept there where it is configured."""
    settings.REDIS_URL = redis_url
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_url}}
    caches["default"].clear()
    yield
    caches["default"].clear()


@pytest.fixture
def with_redis_pool(settings: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """Redis, by a pool as the settings make it, with three connections."""
    monkeypatch.setattr(ConnectionFactory, "_pools", {})
    options = {
        "CONNECTION_POOL_CLASS": "core.net.redis.Pool",
        "CONNECTION_POOL_KWARGS": {"max_connections": 3, "timeout": 20},
    }
    settings.REDIS_URL = redis_url
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_url, "OPTIONS": options}
    }
    client = get_redis_connection("default")
    yield client
    client.connection_pool.disconnect()


@pytest.fixture
def rabbitmq_url() -> str:
    """A real RabbitMQ server, shared by all tests of the run."""
    return _service_url("rabbitmq")


@pytest.fixture
def postgres_url() -> str:
    """A database of a real PostgreSQL server, shared by all tests of the run; it has no tables."""
    return _service_url("postgres")


@pytest.fixture
def database_is_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody gets anything from the database, in any thread, while the test runs."""

    def refuse(self: BaseDatabaseWrapper) -> None:
        raise OperationalError("the connection is refused")

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "cursor", refuse)
        yield


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    fake = FakeClock()
    previous = clock.use(fake.now)
    yield fake
    clock.use(previous)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition, and fail if it does not come true in time."""

    def wait(condition: Callable[[], object], *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            assert time.monotonic() < deadline, f"It did not happen within {timeout_seconds} seconds."
            time.sleep(0.01)

    return wait
