"""Servers, and pools of both kinds."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.ollama_server import OllamaTestServer
from tests.pools import LoopPool, Pool, some_places, thread_pool


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as running:
        yield running


@pytest.fixture(params=["threads", "loop"])
def make_pool(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pool]]:
    """Make pools of either kind: what a test says holds for both."""
    made: list[Pool] = []

    def make(limit: int = 64) -> Pool:
        made.append(thread_pool(limit=limit) if request.param == "threads" else LoopPool(places=some_places(limit)))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose backlog is full, so that the kernel drops further attempts to connect."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Listen for one connection, say these bytes to what is asked, one after the other, and close it.

    Gives the address.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def serve(*answers: bytes) -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                for answer in answers:
                    connection.recv(65_536)
                    connection.sendall(answer)

        def answer_with(*answers: bytes) -> str:
            threads.submit(serve, *answers)
            return f"http://127.0.0.1:{listener.getsockname()[1]}/"

        yield answer_with
