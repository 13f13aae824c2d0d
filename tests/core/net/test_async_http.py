"""What only the event loop's way out has: tasks that are cancelled, and a peer that speaks when nobody reads."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress

import pytest

from core.net import addresses, async_http
from core.net.async_connection import MAX_UNREAD_BYTES
from core.net.calls import Timeouts
from core.net.errors import FirstByteTimeout
from tests.ollama_server import OllamaTestServer
from tests.pools import PATIENT, PROMPT_SECONDS, LoopPool, chat_body, get_version, read_chat, some_places, thread_pool


@pytest.fixture
def pool() -> Iterator[LoopPool]:
    pool = LoopPool()
    yield pool
    pool.close()


async def read_to_the_end(pool: LoopPool, url: str, body: bytes | None = None) -> bytes:
    method = "POST" if body else "GET"
    async with await pool.real.send(method, url, body=body, timeouts=PATIENT) as response:
        return await response.read(100_000_000)


def assert_prompt_cancellation(pool: LoopPool, call: "Future[bytes]") -> None:
    began = time.monotonic()
    call.cancel()
    with pytest.raises(CancelledError):
        call.result(timeout=10)
    while pool.counters().in_use:  # the loop may still be about to end the task
        assert time.monotonic() - began < PROMPT_SECONDS


@pytest.mark.parametrize("model", ["double:hang", "double:stall2"])
@pytest.mark.parametrize("is_reused", [False, True])
def test_a_cancelled_task_ends_its_connection_at_once(
    pool: LoopPool, server: OllamaTestServer, model: str, is_reused: bool
) -> None:
    if is_reused:
        get_version(pool, server)
    call = pool.loop.start(read_to_the_end(pool, f"{server.url}/api/chat", chat_body(model)))
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    assert_prompt_cancellation(pool, call)
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert b"version" in get_version(pool, server)


def test_a_task_that_is_cancelled_while_it_connects_leaves_nothing(
    pool: LoopPool, silent_port: int, wait_until: Callable[..., None]
) -> None:
    call = pool.loop.start(read_to_the_end(pool, f"http://127.0.0.1:{silent_port}/"))
    wait_until(lambda: pool.counters().in_use == 1)
    assert_prompt_cancellation(pool, call)


def test_a_task_that_is_cancelled_while_it_waits_for_a_place_keeps_none(
    server: OllamaTestServer, wait_until: Callable[..., None]
) -> None:
    pool = LoopPool(places=some_places(1))
    held = pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:stall2"), timeouts=PATIENT)
    call = pool.loop.start(read_to_the_end(pool, f"{server.url}/api/version"))
    wait_until(lambda: pool.counters().waiting == 1)
    call.cancel()
    wait_until(lambda: pool.counters().waiting == 0)
    held.close()
    assert b"version" in get_version(pool, server)
    assert pool.counters().in_use == 0
    pool.close()


def test_threads_and_the_loop_wait_for_the_same_places(
    server: OllamaTestServer, threads: ThreadPoolExecutor, wait_until: Callable[..., None]
) -> None:
    of_threads = thread_pool(limit=1)
    of_the_loop = LoopPool(places=of_threads.places)
    held = of_threads.send("POST", f"{server.url}/api/chat", body=chat_body("double:stall2"), timeouts=PATIENT)
    waiting = threads.submit(get_version, of_the_loop, server)
    wait_until(lambda: of_threads.counters().waiting == 1)
    held.close()
    assert b"version" in waiting.result(timeout=10)
    held = of_the_loop.send("POST", f"{server.url}/api/chat", body=chat_body("double:stall2"), timeouts=PATIENT)
    waiting = threads.submit(get_version, of_threads, server)
    wait_until(lambda: of_threads.counters().waiting == 1)
    held.close()
    assert b"version" in waiting.result(timeout=10)
    of_the_loop.close()
    of_threads.close()


def test_a_peer_that_is_faster_than_its_reader_has_to_wait(pool: LoopPool) -> None:
    size = 100_000_000
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def flood() -> int:
            with listener.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                connection.settimeout(0.5)
                sent = 0
                try:
                    while sent < size:
                        sent += connection.send(bytes(1_000_000))
                except TimeoutError:
                    return sent
                return sent

        flooding = threads.submit(flood)
        with pool.send("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeouts=PATIENT) as response:
            taken = flooding.result(timeout=20)
            unread = response.real._connection._unread_bytes
    assert taken < size
    assert unread < 2 * MAX_UNREAD_BYTES


def test_headers_that_trickle_do_not_outlast_their_limit(pool: LoopPool) -> None:
    limits = Timeouts(first_byte=0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        call = threads.submit(pool.send, "GET", url, timeouts=limits)
        with listener.accept()[0] as connection, suppress(ConnectionError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            while not wait([call], timeout=0.05).done:
                connection.sendall(b"x")
        with pytest.raises(FirstByteTimeout):
            call.result(timeout=10)


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"anything else"])
def test_what_follows_an_answer_is_nobodys_answer(
    pool: LoopPool, answering: Callable[..., str], server: OllamaTestServer, more: bytes
) -> None:
    url = answering(b"HTTP/1.1 203 OK\r\nContent-Length: 5\r\n\r\nwhole" + more)
    with pool.send("GET", url, timeouts=PATIENT) as response:
        assert (response.status, response.read(1_000)) == (203, b"whole")
    assert not pool.real._idle


def test_a_header_that_would_be_more_than_one_is_refused(pool: LoopPool, server: OllamaTestServer) -> None:
    for text in ("a\r\nX-Injected: b", "a\nb", "a\0b"):
        with pytest.raises(ValueError, match="end of a line"):
            pool.send("GET", server.url, headers={"X-Name": text}, timeouts=PATIENT)
    assert server.stats()["requests"] == 0


def test_idle_connections_to_targets_that_are_gone_are_forgotten(wait_until: Callable[..., None]) -> None:
    pool = LoopPool()
    with OllamaTestServer() as server:
        read_chat(pool, server, "double")
        assert len(pool.real._idle) == 1
    wait_until(lambda: not pool.real._idle)
    pool.close()


def test_each_loop_has_pools_of_its_own_and_closes_them() -> None:
    async def named() -> async_http.AsyncHttpPool:
        assert async_http.pool("ollama", addresses.nodes) is async_http.pool("ollama", addresses.nodes)
        return async_http.pool("ollama", addresses.nodes)

    async def named_and_closed() -> async_http.AsyncHttpPool:
        pool = await named()
        async_http.close_pools()
        return pool

    first, second = asyncio.run(named()), asyncio.run(named_and_closed())
    assert first is not second
    assert first.places is second.places
