from collections.abc import Iterator

import pytest

from agents.ollama.client import OllamaClient
from core.net.http import HttpPool
from tests.ollama_server import OllamaTestServer
from tests.pools import thread_pool


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
