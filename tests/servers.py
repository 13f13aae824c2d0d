"""Servers that are not what a node should be, and one that takes webhooks."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class WebServer:
    """Listens on a port of its own until the `with` block ends, and leaves every request to `take`."""

    def __init__(self) -> None:
        taker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                taker.take(self, b"")

            def do_POST(self) -> None:
                taker.take(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # it ends when all requests have
        # So often it looks whether it is over.
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.is_over = Event()  # for those who keep a request waiting
        self.port: int = self._server.server_port
        self.address = f"http://127.0.0.1:{self.port}"

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Page(WebServer):
    def __init__(self, redirect_to: str) -> None:
        super().__init__()
        self._redirect_to = redirect_to

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        request.send_response(307 if self._redirect_to else 200)
        if self._redirect_to:
            request.send_header("Location", self._redirect_to)
        request.end_headers()
        request.wfile.write(b"<html>Welcome</html>")


@contextmanager
def web_server(*, redirect_to: str = "") -> Iterator[str]:
    """Run a server that is no Ollama, which answers every path with a page or a redirect; yields its address."""
    with _Page(redirect_to) as page:
        yield page.address


class Canary:
    """A listener that nobody may reach: it counts who did."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((host, 0))
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    def hits(self) -> int:
        """Connections so far; the kernel completes them whether or not somebody accepts."""
        self._listener.setblocking(False)
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        self._listener.close()


class Tap:
    """Stands before a server, passes everything on, and keeps what was said in either direction."""

    def __init__(self, url: str) -> None:
        """url: the server's address; `url` of the tap is the same, but for its own host and port."""
        place = urlsplit(url)
        self._target = (place.hostname or "", place.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        user, at, _ = place.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        self.url = place._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
        self._heard: list[bytearray] = []
        Thread(target=self._accept, daemon=True).start()

    def heard(self) -> list[str]:
        """What each end of each connection said so far."""
        return [bytes(said).decode("utf-8", "replace") for said in self._heard]

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for source, sink in ((client, server), (server, client)):
                    Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        said = bytearray()
        self._heard.append(said)
        with suppress(OSError):  # either end has gone
            while piece := source.recv(65_536):
                said += piece
                sink.sendall(piece)
        for end in (source, sink):
            end.close()


@dataclass(frozen=True)
class Received:
    """A request that a receiver was sent. headers: by their names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


HANG, CUT = 0, 1  # in the place of a status: say nothing, and close the connection


class Receiver(WebServer):
    """Keeps what is posted to it in `received`.

    answers: statuses, HANG or CUT for the next requests; without any, it takes what it is sent (204). text: what it
    says besides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []
        self.answers: list[int] = []
        self.text = ""
        self.url = f"{self.address}/hook/very-private-path"

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        answer = self.answers.pop(0) if self.answers else 204
        self.received.append(Received(request.path, headers_of(request), body))
        if answer == HANG:
            self.is_over.wait()
        if answer in {HANG, CUT}:
            return
        request.send_response(answer)
        if 300 <= answer < 400:
            request.send_header("Location", self.url)
        request.end_headers()
        request.wfile.write(self.text.encode())


def headers_of(request: BaseHTTPRequestHandler) -> dict[str, str]:
    """By their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}
