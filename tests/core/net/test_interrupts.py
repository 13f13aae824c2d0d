"""Calls of threads that somebody else ends."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from core.net.errors import (
    Interrupted,
)
from core.net.http import HttpPool
from core.net.interrupts import Interrupt
from tests.ollama_server import OllamaTestServer
from tests.pools import PATIENT, PROMPT_SECONDS, chat_body, get_version, read_chat, thread_pool


@pytest.fixture
def pool() -> Iterator[HttpPool]:
    """For threads alone: calls of the event loop are cancelled."""
    pool = thread_pool()
    yield pool
    pool.close()


def assert_prompt_interruption(call: "Future[bytes]", interrupt: Interrupt) -> None:
    began = time.monotonic()
    interrupt.shutdown()
    with pytest.raises(Interrupted):
        call.result(timeout=10)
    assert time.monotonic() - began < PROMPT_SECONDS


def test_an_interrupt_ends_a_call_before_its_headers_came(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, "double:hang", interrupt=interrupt)
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    assert_prompt_interruption(call, interrupt)
    server.wait_for(lambda stats: stats["aborted"] == 1)


def test_an_interrupt_ends_a_call_in_mid_stream(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, "double:stall2", interrupt=interrupt)
    server.wait_for(lambda stats: stats["prompts_started"] == {"hello": 1})
    assert_prompt_interruption(call, interrupt)


@pytest.mark.parametrize("model", ["double:hang", "double:stall2"])
def test_an_interrupt_ends_a_call_on_a_reused_connection(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor, model: str
) -> None:
    get_version(pool, server)
    (connection,) = server.app.connections
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, model, interrupt=interrupt)
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    assert connection.is_busy
    assert_prompt_interruption(call, interrupt)
    assert b"version" in get_version(pool, server)


class SignallingInterrupt(Interrupt):
    """Tells when a call has registered its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.is_attached = threading.Event()

    def attach(self, sock: socket.socket) -> None:
        super().attach(sock)
        self.is_attached.set()


def test_an_interrupt_ends_a_call_that_is_still_connecting(
    pool: HttpPool, silent_port: int, threads: ThreadPoolExecutor
) -> None:
    interrupt = SignallingInterrupt()
    url = f"http://127.0.0.1:{silent_port}/"
    call = threads.submit(lambda: pool.send("GET", url, timeouts=PATIENT, interrupt=interrupt).read(1))
    assert interrupt.is_attached.wait(10)
    assert_prompt_interruption(call, interrupt)


def test_a_call_after_the_interrupt_raises_at_once_and_sends_nothing(pool: HttpPool, server: OllamaTestServer) -> None:
    interrupt = Interrupt()
    interrupt.shutdown()
    with pytest.raises(Interrupted):
        read_chat(pool, server, "double", interrupt=interrupt)
    assert server.stats()["requests"] == 0


def test_a_late_interrupt_leaves_the_next_user_of_the_connection_alone(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    read_chat(pool, server, "double", interrupt=interrupt)
    call = threads.submit(read_chat, pool, server, "double:f200")
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    interrupt.shutdown()
    assert b'"done":true' in call.result(timeout=10)


def test_one_interrupt_ends_several_calls(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    calls = [threads.submit(read_chat, pool, server, "double:hang", interrupt=interrupt) for _ in range(3)]
    server.wait_for(lambda stats: stats["in_flight"] == 3)
    for call in calls:
        assert_prompt_interruption(call, interrupt)


def test_an_interrupt_ends_the_body_of_a_connection_that_will_close(
    pool: HttpPool, threads: ThreadPoolExecutor
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        interrupt = Interrupt()
        call = threads.submit(pool.send, "GET", url, timeouts=PATIENT, interrupt=interrupt)
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegin")
            response = call.result(timeout=10)
            assert next(response.chunks()) == b"begin"
            body = threads.submit(response.read, 1_000)
            assert_prompt_interruption(body, interrupt)
        response.close()


def test_an_interrupt_stops_a_reader_that_is_never_kept_waiting(pool: HttpPool, server: OllamaTestServer) -> None:
    interrupt = Interrupt()
    url, body = f"{server.url}/api/chat", chat_body("double:t50000")
    with pool.send("POST", url, body=body, timeouts=PATIENT, interrupt=interrupt) as response:
        chunks = response.chunks()
        next(chunks)
        interrupt.shutdown()
        with pytest.raises(Interrupted):
            next(chunks)
