"""Requests as WSGI tells them, and answers on their way back from Django's threads."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, StreamingHttpResponse

from core.api import bridge
from core.api.bridge import Answer, Bridge, environ

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "scheme": "https",
    "path": "/api/v1/agents/größe/",
    "query_string": b"a=1&b=%20",
    "headers": [(b"host", b"here:1"), (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    "client": ("192.0.2.7", 4000),
    "server": ("127.0.0.1", 10010),
}


def told(*headers: tuple[bytes, bytes], body: bytes = b"", **changes: Any) -> WSGIRequest:
    return WSGIRequest(environ({**SCOPE, "headers": [*SCOPE["headers"], *headers], **changes}, body))


def test_a_request_reaches_django_as_it_was_sent():
    request = told((b"x-thing", "Grüße".encode("latin-1")), body=b'{"a": 1}')
    assert (request.method, request.path, request.scheme) == ("POST", "/api/v1/agents/größe/", "https")
    assert request.GET.dict() == {"a": "1", "b": " "}
    assert (request.body, request.META["CONTENT_LENGTH"], request.content_type) == (
        b'{"a": 1}',
        "8",
        "application/json",
    )
    assert (request.headers["host"], request.headers["x-thing"]) == ("here:1", "Grüße")
    assert (request.META["REMOTE_ADDR"], request.META["SERVER_PORT"]) == ("192.0.2.7", "10010")
    assert request.META["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_what_wsgi_cannot_tell_apart_is_left_out():
    request = told((b"x_forwarded_for", b"198.51.100.1"), (b"content_length", b"7"), query_string="größe=1".encode())
    assert "HTTP_X_FORWARDED_FOR" not in request.META
    assert request.META["CONTENT_LENGTH"] == "0"
    assert "HTTP_TRANSFER_ENCODING" not in request.META
    assert request.GET.dict() == {"gre": "1"}


def test_headers_that_come_twice_are_joined():
    request = told((b"accept", b"a/b"), (b"accept", b"c/d"), (b"cookie", b"one=1"), (b"cookie", b"two=2"))
    assert request.headers["accept"] == "a/b,c/d"
    assert request.COOKIES == {"one": "1", "two": "2"}


def test_a_client_without_an_address_is_possible():
    assert "REMOTE_ADDR" not in told(client=None, server=None).META


def _django(response: HttpResponse | StreamingHttpResponse) -> Any:
    """An application that answers so, as Django's handler does."""

    def application(_: dict[str, Any], start_response: Any) -> Any:
        cookies = [("Set-Cookie", morsel.output(header="")) for morsel in response.cookies.values()]
        start_response(f"{response.status_code} Reason", [*response.items(), *cookies])
        return response

    return application


def asked(application: Any) -> tuple[Answer | None, list[dict]]:
    """Return the answer, and what was sent meanwhile."""
    sent: list[dict] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> Answer | None:
        async with asyncio.timeout(30):
            return await Bridge(application, 1).ask(SCOPE, b"", send)

    return asyncio.run(ask()), sent


def test_a_whole_answer_is_returned_with_every_cookie():
    response = HttpResponse(b"text", status=201, headers={"X-Thing": "Grüße"})
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    answer, sent = asked(_django(response))
    assert not sent
    assert (answer.status, answer.body) == (201, b"text")
    assert answer.header("x-thing") == answer.header("X-Thing") == "Grüße"
    assert answer.header("absent") == ""
    assert [value[:5] for name, value in answer.headers if name == b"set-cookie"] == [b"one=1", b"two=2"]
    assert response.closed


def test_an_answer_in_pieces_is_sent_as_it_is_made_by_one_thread():
    threads = set()

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"two"):
            threads.add(threading.current_thread().name)
            yield piece

    response = StreamingHttpResponse(pieces())
    answer, sent = asked(_django(response))
    assert answer is None
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 3]
    assert [(message["body"], message["more_body"]) for message in sent[1:]] == [
        (b"one", True),
        (b"two", True),
        (b"", False),
    ]
    assert len(threads) == 1
    assert response.closed


def test_an_error_in_the_middle_of_pieces_does_not_make_them_look_whole():
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("no more")

    response = StreamingHttpResponse(pieces())
    sent: list[dict] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(Bridge(_django(response), 1).ask(SCOPE, b"", send))
    assert sent[-1]["more_body"]
    assert response.closed


def test_a_client_that_takes_nothing_holds_its_thread_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(bridge, "SEND_SECONDS", 0.05)
    response = StreamingHttpResponse(iter([b"one", b"two"]))

    async def send(_: Any) -> None:
        await asyncio.Event().wait()

    async def ask() -> None:
        async with asyncio.timeout(30):
            await Bridge(_django(response), 1).ask(SCOPE, b"", send)

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert response.closed


def test_a_client_that_left_ends_the_pieces():
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            made.append(number)
            yield b"piece"

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client left")

    with pytest.raises(OSError, match="left"):
        asyncio.run(Bridge(_django(StreamingHttpResponse(pieces())), 1).ask(SCOPE, b"", send))
    assert len(made) == 1
