"""People at the console's door."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.test import Client

from core.models import User
from tests.factories import make_administrator, make_builtin_node, make_staff


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    """The dashboard keeps its panels for a moment; no test sees another's."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def operator(db: None) -> User:
    return make_administrator(username="op")


@pytest.fixture
def console(operator: User) -> Client:
    """An administrator's browser, beside a built-in node so that agents can work."""
    make_builtin_node()
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def clerk(db: None) -> Client:
    """A browser of somebody who may sign in to the console, and nothing else."""
    client = Client()
    client.force_login(make_staff())
    return client
