"""The way out: limits, interruption, and what is left behind afterwards."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from core.net import addresses, http
from core.net.calls import Timeouts
from core.net.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstByteTimeout,
    GapTimeout,
    Interrupted,
    InvalidUrl,
    NetError,
    NotHttp,
    PoolExhausted,
    ResponseTooLarge,
)
from core.net.http import HttpPool
from core.net.interrupts import Interrupt
from core.net.places import Counters
from tests.ollama_server import OllamaTestServer
from tests.pools import thread_pool

PATIENT = Timeouts(connect=20, write=20, pool=20, first_byte=20, gap=20)
QUICK = Timeouts(connect=0.1, write=0.1, pool=0.1, first_byte=0.1, gap=0.1)

# "Within milliseconds", on a machine that may be busy with other things.
PROMPT_SECONDS = 1.0


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


def chat_body(model: str) -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"hello"}]}' % model.encode()


def read_chat(pool: HttpPool, server: OllamaTestServer, model: str, interrupt: Interrupt | None = None) -> bytes:
    url = f"{server.url}/api/chat"
    with pool.send("POST", url, body=chat_body(model), timeouts=PATIENT, interrupt=interrupt) as response:
        return response.read(1_000_000)


def get_version(pool: HttpPool, server: OllamaTestServer) -> bytes:
    with pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT) as response:
        return response.read(1_000)


def assert_prompt_interruption(call: "Future[bytes]", interrupt: Interrupt) -> None:
    began = time.monotonic()
    interrupt.shutdown()
    with pytest.raises(Interrupted):
        call.result(timeout=10)
    assert time.monotonic() - began < PROMPT_SECONDS


def test_it_returns_status_headers_and_body(pool: HttpPool, server: OllamaTestServer) -> None:
    with pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("application/json")
        assert b"version" in response.read(1_000)


def test_it_reuses_connections(pool: HttpPool, server: OllamaTestServer) -> None:
    for _ in range(5):
        get_version(pool, server)
    assert len(server.app.connections) == 1


def test_it_replaces_a_pooled_connection_that_the_server_closed(pool: HttpPool) -> None:
    with OllamaTestServer() as first:
        get_version(pool, first)
    with OllamaTestServer(port=first.port) as second:
        assert b"version" in get_version(pool, second)


def test_an_early_close_gives_the_connection_up(pool: HttpPool, server: OllamaTestServer) -> None:
    with pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:t9999-d20"), timeouts=PATIENT) as response:
        next(response.chunks())
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert b"version" in get_version(pool, server)


def test_an_interrupt_ends_a_call_before_its_headers_came(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, "double:hang", interrupt)
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    assert_prompt_interruption(call, interrupt)
    server.wait_for(lambda stats: stats["aborted"] == 1)


def test_an_interrupt_ends_a_call_in_mid_stream(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, "double:stall2", interrupt)
    server.wait_for(lambda stats: stats["prompts_started"] == {"hello": 1})
    assert_prompt_interruption(call, interrupt)


@pytest.mark.parametrize("model", ["double:hang", "double:stall2"])
def test_an_interrupt_ends_a_call_on_a_reused_connection(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor, model: str
) -> None:
    get_version(pool, server)
    (connection,) = server.app.connections
    interrupt = Interrupt()
    call = threads.submit(read_chat, pool, server, model, interrupt)
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
        read_chat(pool, server, "double", interrupt)
    assert server.stats()["requests"] == 0


def test_a_late_interrupt_leaves_the_next_user_of_the_connection_alone(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    read_chat(pool, server, "double", interrupt)
    call = threads.submit(read_chat, pool, server, "double:f200")
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    interrupt.shutdown()
    assert b'"done":true' in call.result(timeout=10)


def test_one_interrupt_ends_several_calls(
    pool: HttpPool, server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    interrupt = Interrupt()
    calls = [threads.submit(read_chat, pool, server, "double:hang", interrupt) for _ in range(3)]
    server.wait_for(lambda stats: stats["in_flight"] == 3)
    for call in calls:
        assert_prompt_interruption(call, interrupt)


def test_a_refused_connection_is_named(pool: HttpPool) -> None:
    with pytest.raises(ConnectFailed, match="refused"):
        pool.send("GET", "http://127.0.0.1:1/", timeouts=PATIENT)
    assert pool.counters().connection_errors == 1


def test_an_unknown_name_is_a_failure_to_connect(pool: HttpPool) -> None:
    with pytest.raises(ConnectFailed):
        pool.send("GET", "http://no-such-host.invalid/", timeouts=PATIENT)


@pytest.mark.parametrize("url", ["http://exa mple:99999999/", "ftp://example/", "example", "http:///"])
def test_an_impossible_address_is_named(pool: HttpPool, url: str) -> None:
    with pytest.raises(InvalidUrl):
        pool.send("GET", url, timeouts=PATIENT)


def test_connecting_has_a_limit(pool: HttpPool, silent_port: int) -> None:
    with pytest.raises(ConnectFailed, match=r"0\.1 s"):
        pool.send("GET", f"http://127.0.0.1:{silent_port}/", timeouts=QUICK)


def test_the_first_byte_has_a_limit(pool: HttpPool, server: OllamaTestServer) -> None:
    with pytest.raises(FirstByteTimeout):
        pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:hang"), timeouts=QUICK)
    server.wait_for(lambda stats: stats["in_flight"] == 0)


def test_gaps_have_a_limit_of_their_own(pool: HttpPool, server: OllamaTestServer) -> None:
    limits = Timeouts(first_byte=20, gap=0.1)
    with (
        pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:f300-stall2"), timeouts=limits) as response,
        pytest.raises(GapTimeout),
    ):
        response.read(1_000_000)


def test_writing_has_a_limit(pool: HttpPool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectionLost):
            pool.send("POST", url, body=bytes(50_000_000), timeouts=Timeouts(write=0.1))


@pytest.mark.parametrize("model", ["double:hang", "double:stall2", "double:t9999-d20"])
def test_the_deadline_ends_every_phase(pool: HttpPool, server: OllamaTestServer, model: str) -> None:
    deadline = time.monotonic() + 0.15
    with pytest.raises(DeadlineExceeded):  # noqa: PT012  # which of the two lines raises depends on the phase
        url = f"{server.url}/api/chat"
        with pool.send("POST", url, body=chat_body(model), timeouts=PATIENT, deadline=deadline) as response:
            response.read(1_000_000)
    assert time.monotonic() - deadline < PROMPT_SECONDS


def test_a_passed_deadline_sends_nothing(pool: HttpPool, server: OllamaTestServer) -> None:
    with pytest.raises(DeadlineExceeded):
        pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT, deadline=time.monotonic() - 1)
    assert server.stats()["requests"] == 0


@pytest.mark.parametrize(("model", "body_began"), [("double:reset", False), ("double:cut2", True)])
def test_a_broken_connection_tells_whether_the_body_began(
    pool: HttpPool, server: OllamaTestServer, model: str, body_began: bool
) -> None:
    with pytest.raises(ConnectionLost) as caught:
        read_chat(pool, server, model)
    assert caught.value.body_began is body_began


def test_a_full_pool_waits_and_then_says_so(server: OllamaTestServer, threads: ThreadPoolExecutor) -> None:
    pool = thread_pool(limit=1)
    held = pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:stall2"), timeouts=PATIENT)
    with pytest.raises(PoolExhausted):
        pool.send("GET", f"{server.url}/api/version", timeouts=QUICK)
    waiting = threads.submit(get_version, pool, server)
    held.close()
    assert b"version" in waiting.result(timeout=10)
    pool.close()


def test_failures_of_all_kinds_leave_no_connection_behind(server: OllamaTestServer) -> None:
    pool = thread_pool(limit=1)
    for model in ("double:reset", "double:cut2", "double:hang", "double:stall2", "double:html", "double:status502"):
        for _ in range(3):
            try:
                url = f"{server.url}/api/chat"
                with pool.send("POST", url, body=chat_body(model), timeouts=QUICK) as response:
                    response.read(1_000_000)
            except NetError:
                pass
    assert b"version" in get_version(pool, server)
    assert pool.counters().in_use == 0
    stats = server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert stats["connections"] <= 2
    pool.close()


def test_a_body_beyond_the_limit_is_refused(pool: HttpPool, server: OllamaTestServer) -> None:
    with (
        pool.send("GET", f"{server.url}/api/tags", timeouts=PATIENT) as response,
        pytest.raises(ResponseTooLarge),
    ):
        response.read(10)


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Listen for one connection, say these bytes to whatever is asked, and close it; gives the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def serve(answer: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        def answer_with(answer: bytes) -> str:
            threads.submit(serve, answer)
            return f"http://127.0.0.1:{listener.getsockname()[1]}/"

        yield answer_with


def test_redirects_are_answers(pool: HttpPool, answering: Callable[[bytes], str]) -> None:
    url = answering(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nConnection: close\r\n\r\n")
    with pool.send("GET", url, timeouts=PATIENT) as response:
        assert (response.status, response.headers["location"]) == (302, "http://169.254.169.254/")


def test_what_does_not_speak_http_is_named(pool: HttpPool, answering: Callable[[bytes], str]) -> None:
    with pytest.raises(NotHttp, match="SSH"):
        pool.send("GET", answering(b"SSH-2.0-OpenSSH_9.2\r\n"), timeouts=PATIENT)


def test_a_connection_closed_without_a_word_is_lost(pool: HttpPool, answering: Callable[[bytes], str]) -> None:
    with pytest.raises(ConnectionLost):
        pool.send("GET", answering(b""), timeouts=PATIENT)


def test_a_proxy_in_the_environment_is_ignored(
    pool: HttpPool, server: OllamaTestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert b"version" in get_version(pool, server)


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


def test_counters_follow_the_traffic(pool: HttpPool, server: OllamaTestServer) -> None:
    with pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT):
        assert pool.counters() == Counters(requests=1, connection_errors=0, in_use=1)
    assert pool.counters() == Counters(requests=1, connection_errors=0, in_use=0)


def test_a_named_pool_is_made_once() -> None:
    assert http.pool("external", addresses.external) is http.pool("external", addresses.external)


def test_pools_of_one_name_share_their_places_and_never_connections() -> None:
    """What the policy of one allowed is no way out for the other."""
    webhooks, identity = http.pool("external", addresses.external), http.pool("external", addresses.identity)
    assert webhooks.places is identity.places
    assert webhooks is not identity
