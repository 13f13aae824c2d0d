from collections.abc import Iterator

import pytest

from agents.ollama.client import OllamaClient
from core.net import addresses
from core.net.http import HttpPool
from tests.ollama_server import OllamaTestServer


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[HttpPool]:
    pool = HttpPool("test", addresses.nodes)
    yield pool
    pool.close()


@pytest.fixture
def client(server: OllamaTestServer, pool: HttpPool) -> OllamaClient:
    return OllamaClient(server.url, pool=pool)
