"""Servers that are not what a node should be."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.parse import urlsplit


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        location = getattr(self.server, "redirect_to", "")
        self.send_response(307 if location else 200)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web_server(*, redirect_to: str = "") -> Iterator[str]:
    """Run a server that is no Ollama, which answers every path with a page or a redirect; yields its address."""
    server = HTTPServer(("127.0.0.1", 0), _Page)
    server.redirect_to = redirect_to
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
