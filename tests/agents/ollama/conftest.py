from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.ollama.client import OllamaClient
from core.net.http import HttpPool
from tests.agents.ollama.callers import Caller, LoopClient
from tests.ollama_server import OllamaTestServer
from tests.pools import LoopPool, Pool, thread_pool


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[HttpPool]:
    pool = thread_pool()
    yield pool
    pool.close()


@pytest.fixture
def client(server: OllamaTestServer, pool: HttpPool) -> OllamaClient:
    return OllamaClient(server.url, pool=pool)


@pytest.fixture(params=["threads", "loop"])
def callers_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = thread_pool() if request.param == "threads" else LoopPool()
    yield pool
    pool.close()


@pytest.fixture
def make_caller(callers_pool: Pool) -> Callable[..., Caller]:
    """Make clients of either kind: what a test says of chat, generate and embed holds for both."""

    def make(url: str, **options: Any) -> Caller:
        if isinstance(callers_pool, LoopPool):
            return LoopClient(url, pool=callers_pool, **options)
        return OllamaClient(url, pool=callers_pool, **options)

    return make


@pytest.fixture
def caller(server: OllamaTestServer, make_caller: Callable[..., Caller]) -> Caller:
    return make_caller(server.url)
