"""A small HTTP/1.1 server on asyncio: one task per request, cancelled when the client goes away."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
EVENTS = "text/event-stream"

REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A request with its whole body; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply:
    """Writes the answer to one request."""

    def __init__(self, transport: asyncio.Transport, *, is_head: bool) -> None:
        self._transport = transport
        self._is_head = is_head
        self.has_begun = False

    def send(self, status: int, content_type: str, body: bytes = b"") -> None:
        """Answer at once and whole."""
        self.has_begun = True
        head = self._head(status, f"Content-Type: {content_type}\r\nContent-Length: {len(body)}")
        self._transport.write(head if self._is_head else head + body)

    def json(self, status: int, value: Any) -> None:
        self.send(status, JSON, json.dumps(value, separators=(",", ":")).encode())

    def empty(self, status: int) -> None:
        self.has_begun = True
        self._transport.write(self._head(status, "Content-Length: 0"))

    def write(self, content_type: str, parts: Iterable[bytes]) -> None:
        """Stream parts, each as a chunk of its own; the headers go out with the first."""
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        if not self.has_begun:
            self.has_begun = True
            data = self._head(200, f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked") + data
        self._transport.write(data)

    def end(self) -> None:
        """Close the stream politely."""
        self._transport.write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Break the connection, with a reset."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    @staticmethod
    def _head(status: int, headers: str) -> bytes:
        now = formatdate(usegmt=True)
        return f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\nDate: {now}\r\n{headers}\r\n\r\n".encode("latin-1")


Handler = Callable[[Request, Reply], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection; its requests are answered one after another."""

    def __init__(self, handle: Handler, open_connections: set["Connection"]) -> None:
        self._handle = handle
        self._open_connections = open_connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    @property
    def is_busy(self) -> bool:
        """True while a request is being answered on it."""
        return self._task is not None

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._task is not None or self._transport.is_closing():
            return
        request = _take_request(self._buffer)
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        reply = Reply(self._transport, is_head=request.method == "HEAD")
        try:
            await self._handle(request, reply)
        finally:
            self._task = None
        if request.headers.get("connection", "").lower() == "close":
            self._transport.close()
        self._next()


def _take_request(buffer: bytearray) -> Request | None:
    """Cut a whole request off the buffer, or leave it until more has come."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    start = end + 4
    if headers.get("transfer-encoding", "").lower() == "chunked":
        taken = _take_chunks(buffer, start)
    else:
        size = int(headers.get("content-length", 0))
        taken = (bytes(buffer[start : start + size]), start + size) if len(buffer) >= start + size else None
    if taken is None:
        return None
    body, stop = taken
    del buffer[:stop]
    return Request(method, unquote(urlsplit(target).path), headers, body)


def _take_chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """Join a chunked body; returns it and where it stops, or None if more must come."""
    if not buffer.endswith(b"0\r\n\r\n"):  # nobody sends a second request before the first is answered
        return None
    parts: list[bytes] = []
    while (line_end := buffer.find(b"\r\n", start)) >= 0:
        size = int(buffer[start:line_end].split(b";")[0], 16)
        data_start = line_end + 2
        start = data_start + size + 2
        if len(buffer) < start:
            return None
        if size == 0:
            return b"".join(parts), start
        parts.append(bytes(buffer[data_start : data_start + size]))
    return None
