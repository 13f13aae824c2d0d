"""The way out, for threads and on the event loop: limits, and what is left behind afterwards."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from core.net import addresses, async_http, http
from core.net.calls import Timeouts
from core.net.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstByteTimeout,
    GapTimeout,
    InvalidUrl,
    NetError,
    NotHttp,
    PoolExhausted,
    ResponseTooLarge,
)
from core.net.places import Counters
from tests.certificates import certificate_for
from tests.ollama_server import OllamaTestServer
from tests.pools import PATIENT, PROMPT_SECONDS, QUICK, Pool, chat_body, get_version, read_chat


def test_it_returns_status_headers_and_body(pool: Pool, server: OllamaTestServer) -> None:
    with pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("application/json")
        assert b"version" in response.read(1_000)


def test_it_reuses_connections(pool: Pool, server: OllamaTestServer) -> None:
    for _ in range(5):
        get_version(pool, server)
    assert len(server.app.connections) == 1


def test_it_replaces_a_pooled_connection_that_the_server_closed(pool: Pool) -> None:
    with OllamaTestServer() as first:
        get_version(pool, first)
    with OllamaTestServer(port=first.port) as second:
        assert b"version" in get_version(pool, second)


def test_an_early_close_gives_the_connection_up(pool: Pool, server: OllamaTestServer) -> None:
    with pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:t9999-d20"), timeouts=PATIENT) as response:
        next(response.chunks())
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert b"version" in get_version(pool, server)


def test_a_refused_connection_is_named(pool: Pool) -> None:
    with pytest.raises(ConnectFailed, match="refused"):
        pool.send("GET", "http://127.0.0.1:1/", timeouts=PATIENT)
    assert pool.counters().connection_errors == 1


def test_an_unknown_name_is_a_failure_to_connect(pool: Pool) -> None:
    with pytest.raises(ConnectFailed):
        pool.send("GET", "http://no-such-host.invalid/", timeouts=PATIENT)


@pytest.mark.parametrize("url", ["http://exa mple:99999999/", "ftp://example/", "example", "http:///"])
def test_an_impossible_address_is_named(pool: Pool, url: str) -> None:
    with pytest.raises(InvalidUrl):
        pool.send("GET", url, timeouts=PATIENT)


def test_connecting_has_a_limit(pool: Pool, silent_port: int) -> None:
    with pytest.raises(ConnectFailed, match=r"0\.1 s"):
        pool.send("GET", f"http://127.0.0.1:{silent_port}/", timeouts=QUICK)


def test_the_first_byte_has_a_limit(pool: Pool, server: OllamaTestServer) -> None:
    with pytest.raises(FirstByteTimeout):
        pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:hang"), timeouts=QUICK)
    server.wait_for(lambda stats: stats["in_flight"] == 0)


def test_gaps_have_a_limit_of_their_own(pool: Pool, server: OllamaTestServer) -> None:
    limits = Timeouts(first_byte=20, gap=0.1)
    with (
        pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:f300-stall2"), timeouts=limits) as response,
        pytest.raises(GapTimeout),
    ):
        response.read(1_000_000)


def test_writing_has_a_limit(pool: Pool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectionLost):
            pool.send("POST", url, body=bytes(50_000_000), timeouts=Timeouts(write=0.1))


@pytest.mark.parametrize("model", ["double:hang", "double:stall2", "double:t9999-d20"])
def test_the_deadline_ends_every_phase(pool: Pool, server: OllamaTestServer, model: str) -> None:
    deadline = time.monotonic() + 0.15
    with pytest.raises(DeadlineExceeded):  # noqa: PT012  # which of the two lines raises depends on the phase
        url = f"{server.url}/api/chat"
        with pool.send("POST", url, body=chat_body(model), timeouts=PATIENT, deadline=deadline) as response:
            response.read(1_000_000)
    assert time.monotonic() - deadline < PROMPT_SECONDS


def test_a_passed_deadline_sends_nothing(pool: Pool, server: OllamaTestServer) -> None:
    with pytest.raises(DeadlineExceeded):
        pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT, deadline=time.monotonic() - 1)
    assert server.stats()["requests"] == 0


@pytest.mark.parametrize(("model", "body_began"), [("double:reset", False), ("double:cut2", True)])
def test_a_broken_connection_tells_whether_the_body_began(
    pool: Pool, server: OllamaTestServer, model: str, body_began: bool
) -> None:
    with pytest.raises(ConnectionLost) as caught:
        read_chat(pool, server, model)
    assert caught.value.body_began is body_began


def test_a_full_pool_waits_and_then_says_so(
    make_pool: Callable[..., Pool], server: OllamaTestServer, threads: ThreadPoolExecutor
) -> None:
    pool = make_pool(limit=1)
    held = pool.send("POST", f"{server.url}/api/chat", body=chat_body("double:stall2"), timeouts=PATIENT)
    with pytest.raises(PoolExhausted):
        pool.send("GET", f"{server.url}/api/version", timeouts=QUICK)
    waiting = threads.submit(get_version, pool, server)
    held.close()
    assert b"version" in waiting.result(timeout=10)


def test_failures_of_all_kinds_leave_no_connection_behind(
    make_pool: Callable[..., Pool], server: OllamaTestServer
) -> None:
    pool = make_pool(limit=1)
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


def test_a_body_beyond_the_limit_is_refused(pool: Pool, server: OllamaTestServer) -> None:
    with (
        pool.send("GET", f"{server.url}/api/tags", timeouts=PATIENT) as response,
        pytest.raises(ResponseTooLarge),
    ):
        response.read(10)


def test_redirects_are_answers(pool: Pool, answering: Callable[..., str]) -> None:
    url = answering(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nConnection: close\r\n\r\n")
    with pool.send("GET", url, timeouts=PATIENT) as response:
        assert (response.status, response.headers["location"]) == (302, "http://169.254.169.254/")


def test_what_does_not_speak_http_is_named(pool: Pool, answering: Callable[..., str]) -> None:
    with pytest.raises(NotHttp, match="SSH"):
        pool.send("GET", answering(b"SSH-2.0-OpenSSH_9.2\r\n"), timeouts=PATIENT)


def test_a_connection_closed_without_a_word_is_lost(pool: Pool, answering: Callable[..., str]) -> None:
    with pytest.raises(ConnectionLost):
        pool.send("GET", answering(b""), timeouts=PATIENT)


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (WHOLE, b"whole"),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, b"whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\nX-Trailer: 1\r\n\r\n", b"whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n", b"whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain", b"plain"),
    ],
)
def test_it_reads_every_way_to_end_a_body(
    pool: Pool, answering: Callable[..., str], answer: bytes, body: bytes
) -> None:
    with pool.send("GET", answering(answer), timeouts=PATIENT) as response:
        assert response.read(1_000) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwhole",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\nno size\r\n",
    ],
)
def test_half_a_body_passes_for_none(pool: Pool, answering: Callable[..., str], answer: bytes) -> None:
    with (
        pool.send("GET", answering(answer), timeouts=PATIENT) as response,
        pytest.raises(ConnectionLost) as caught,
    ):
        response.read(1_000)
    assert caught.value.body_began


@pytest.mark.parametrize(
    "answer", [b"<html>\n", b"HTTP/1.1 200 OK\r\nX-Long: %b\r\n\r\n" % (b"x" * 400_000), b"HTTP/9.1 200 OK\r\n\r\n"]
)
def test_nonsense_instead_of_headers_is_no_answer(pool: Pool, answering: Callable[..., str], answer: bytes) -> None:
    with pytest.raises((NotHttp, ConnectionLost)):
        pool.send("GET", answering(answer), timeouts=PATIENT)
    assert pool.counters().in_use == 0


def test_an_answer_to_head_has_no_body_whatever_its_length(pool: Pool, answering: Callable[..., str]) -> None:
    url = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    with pool.send("HEAD", url, timeouts=PATIENT) as response:
        assert (response.status, response.read(1_000)) == (200, b"")


def test_an_answer_that_comes_before_the_request_has_left_is_read(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def refuse() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                while connection.recv(1_000_000):
                    pass

        threads.submit(refuse)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pool.send("POST", url, body=bytes(5_000_000), timeouts=PATIENT) as response:
            assert response.status == 413


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Serve by TLS with a certificate for a name, which everybody here trusts; gives the port."""
    listeners: list[socket.socket] = []
    with ThreadPoolExecutor() as threads:

        def serve(name: str) -> int:
            certificate = certificate_for(name, tmp_path)
            monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))
            monkeypatch.setattr(async_http, "DEFAULT_CA_BUNDLE_PATH", str(certificate))
            async_http.tls.cache_clear()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listener = socket.create_server(("127.0.0.1", 0))
            listeners.append(listener)

            def answer() -> None:
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with connection, context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(65_536)
                        secured.sendall(WHOLE)

            threads.submit(answer)
            return int(listener.getsockname()[1])

        yield serve
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
            listener.close()
    async_http.tls.cache_clear()


def this_machine(_: str, port: int) -> list[addresses.Found]:
    return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)


def test_tls_is_spoken_with_the_name_although_the_address_was_checked(
    pool: Pool, certified: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = certified("gpu.internal")
    monkeypatch.setattr(addresses, "resolve", this_machine)
    with pool.send("GET", f"https://gpu.internal:{port}/", timeouts=PATIENT) as response:
        assert response.read(1_000) == b"whole"


def test_a_certificate_for_another_name_is_refused(
    pool: Pool, certified: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = certified("other.internal")
    monkeypatch.setattr(addresses, "resolve", this_machine)
    with pytest.raises(ConnectFailed, match=r"gpu\.internal"):
        pool.send("GET", f"https://gpu.internal:{port}/", timeouts=PATIENT)


def test_a_certificate_that_nobody_vouches_for_is_refused(pool: Pool, certified: Callable[[str], int]) -> None:
    port = certified("gpu.internal")
    certified("somebody.else")  # whose certificate is trusted now, and no other
    with pytest.raises(ConnectFailed, match="certificate verify failed"):
        pool.send("GET", f"https://127.0.0.1:{port}/", timeouts=PATIENT)


def test_a_proxy_in_the_environment_is_ignored(
    pool: Pool, server: OllamaTestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert b"version" in get_version(pool, server)


def test_counters_follow_the_traffic(pool: Pool, server: OllamaTestServer) -> None:
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
