"""Django, a WSGI application, behind the dispatcher's ASGI: a thread for each request, and one way back from it.

Bridges for any application hand each message of an answer over by itself and wait until it is sent. Nearly all answers
of Django's are whole when it returns them, so here they are what the thread returns.
"""

import asyncio
import io
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse

from core.asgi import Message, Scope, Send
from core.ops.threads import Helpers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

# How the body came; what Django gets is the whole of it.
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
SEND_SECONDS = 60.0  # a client that takes no piece of an answer for so long holds a thread no longer


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole one. headers: as ASGI has them."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str:
        """Return its value; empty where there is none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for name, value in self.headers if name == wanted), "")


class Bridge:
    """Calls Django in one of so many threads, which keep their database connections."""

    def __init__(self, application: WSGIHandler, threads: int) -> None:
        self._application = application
        self._in_thread = Helpers("django", threads)

    async def ask(self, scope: Scope, body: bytes, send: Send) -> Answer | None:
        """Have a request answered. Returns None where the answer came in pieces: those have been sent."""
        loop = asyncio.get_running_loop()

        def send_and_wait(message: Message) -> None:
            sent: Future[None] = asyncio.run_coroutine_threadsafe(_sent(send, message), loop)
            try:
                sent.result(SEND_SECONDS)
            except TimeoutError:
                sent.cancel()
                raise

        return await self._in_thread(self._answer, environ(scope, body), send_and_wait)

    def _answer(self, request: dict[str, Any], send: Callable[[Message], None]) -> Answer | None:
        started: list[tuple[int, list[tuple[bytes, bytes]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            # Django begins cookies with a space.
            encoded = [(name.lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers]
            started.append((int(status.split(" ", 1)[0]), encoded))

        # It would be given a way to write besides, for applications older than WSGI; Django is none.
        response = self._application(request, cast("StartResponse", start))
        try:
            ((status, headers),) = started
            if isinstance(response, HttpResponse):
                return Answer(status, headers, response.content)
            send({"type": "http.response.start", "status": status, "headers": headers})
            for piece in response:
                send({"type": "http.response.body", "body": piece, "more_body": True})
            send({"type": "http.response.body", "body": b"", "more_body": False})
            return None
        finally:
            response.close()


async def _sent(send: Send, message: Message) -> None:
    await send(message)


def environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """Tell a request as WSGI does (PEP 3333): text is Latin-1 that stands for bytes.

    Left out is what WSGI cannot tell apart or hold: header names with an underscore, a query that is not ASCII. The
    length is the body's own: for WSGI a body that came in chunks, without a length, would be empty.
    """
    server, port = scope.get("server") or ("localhost", 80)
    told: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("ascii", "ignore"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server,
        "SERVER_PORT": str(port or 0),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client := scope.get("client"):
        told["REMOTE_ADDR"], told["REMOTE_PORT"] = client[0], str(client[1])
    for name, value in scope["headers"]:
        if b"_" not in name and name not in FRAMING:
            _add_header(told, name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1"))
    return told


def _add_header(told: dict[str, Any], name: str, value: str) -> None:
    """A header that comes more than once is one whose values are joined; HTTP/2 splits cookies, too."""
    if name != "CONTENT_TYPE":
        name = f"HTTP_{name}"
    separator = "; " if name == "HTTP_COOKIE" else ","
    told[name] = f"{told[name]}{separator}{value}" if name in told else value
