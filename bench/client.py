"""A small HTTP client that costs little, so that hundreds of streams measure the server and not the client."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

OnBody = Callable[[bytes], None]
OnHead = Callable[[int, Mapping[str, str]], None]  # takes the status and the headers


@dataclass(frozen=True, slots=True)
class Response:
    """body is empty where the caller took the pieces as they came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(asyncio.Protocol):
    """One connection, kept alive; one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parse: Callable[[], bool] = self._parse_head
        self._answer: asyncio.Future[Response] | None = None
        self._on_head: OnHead | None = None
        self._on_body: OnBody | None = None
        self._parts: list[bytes] = []
        self._status = 0
        self._headers: dict[str, str] = {}
        self._left = 0
        self.transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes, on_head: OnHead | None, on_body: OnBody | None) -> "asyncio.Future[Response]":
        """Send a request; the head goes to `on_head`, and pieces of the body to `on_body`, as they come."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._on_head = on_head
        self._on_body = on_body
        self._parts = []
        self.transport.write(request)
        return self._answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the connection ended early: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._parse():
            pass

    def _parse_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        self._status = int(first.split(" ", 2)[1])
        self._headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._on_head is not None:
            self._on_head(self._status, self._headers)
        if self._headers.get("transfer-encoding") == "chunked":
            self._parse = self._parse_chunk_size
        else:
            self._left = int(self._headers.get("content-length", 0))
            self._parse = self._parse_rest
        return True

    def _parse_rest(self) -> bool:
        """Take a body whose length was announced."""
        if len(self._buffer) < self._left:
            return False
        self._deliver(self._take(self._left))
        return self._finish()

    def _parse_chunk_size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        self._left = int(self._take(end + 2)[:-2].split(b";")[0], 16)
        self._parse = self._parse_chunk
        return True

    def _parse_chunk(self) -> bool:
        """Take a whole chunk and the line end after it; an empty one is the last."""
        if len(self._buffer) < self._left + 2:
            return False
        chunk = self._take(self._left + 2)[:-2]
        if not chunk:
            return self._finish()
        self._deliver(chunk)
        self._parse = self._parse_chunk_size
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _deliver(self, piece: bytes) -> None:
        if self._on_body is None:
            self._parts.append(piece)
        else:
            self._on_body(piece)

    def _finish(self) -> bool:
        self._parse = self._parse_head
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Response(self._status, self._headers, b"".join(self._parts)))
        if self._headers.get("connection", "").lower() == "close":
            self.close()
        return bool(self._buffer)


class Client:
    """Requests to one server over connections that are used again."""

    def __init__(self, url: str, *, key: str = "", timeout_seconds: float = 60) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Connection] = []
        self._fixed = f"Host: {parts.netloc}\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "")

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        on_head: OnHead | None = None,
        on_body: OnBody | None = None,
    ) -> Response:
        """Send one request, with `body` as JSON. Raises OSError (TimeoutError and ConnectionError are ones)."""
        request = self._encode(method, path, body, headers or {})
        async with asyncio.timeout(self._timeout_seconds):
            connection = await self._connection()
            try:
                response = await connection.send(request, on_head, on_body)
            except BaseException:
                connection.close()
                raise
        if connection.is_open:
            self._idle.append(connection)
        return response

    async def get(self, path: str) -> Response:
        return await self.request("GET", path)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return connection

    def _encode(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1\r\n{self._fixed}"]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n")
        return "".join([*lines, "\r\n"]).encode() + content


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. received_at: time.perf_counter() when it came."""

    number: int
    type: str
    data: str
    received_at: float

    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def is_last(self) -> bool:
        return self.type in {"done", "error"}


class EventParser:
    """Makes events of the pieces of a stream; comments, and events of the moment, which have no id, are skipped."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, piece: bytes) -> list[Event]:
        now = time.perf_counter()
        *blocks, self._rest = (self._rest + piece.decode()).split("\n\n")
        return [_event(block, now) for block in blocks if block.startswith("id: ")]


def _event(block: str, received_at: float) -> Event:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Event(int(fields["id"]), fields["event"], fields["data"], received_at)


class Following:
    """What one follower of one task received, and what the rules of the stream make of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._parser = EventParser()

    def take(self, piece: bytes) -> None:
        self.events += self._parser.feed(piece)

    def reconnected(self) -> None:
        """Forget the beginning of an event that the end of a connection cut."""
        self._parser = EventParser()

    @property
    def last_number(self) -> int:
        return self.events[-1].number if self.events else 0

    @property
    def is_complete(self) -> bool:
        return bool(self.events) and self.events[-1].is_last

    @property
    def is_gapless(self) -> bool:
        """Every event once and in order, from the first, and nothing after the end."""
        numbers = [event.number for event in self.events]
        ends = [event for event in self.events if event.is_last]
        return numbers == list(range(1, len(numbers) + 1)) and len(ends) <= 1

    @property
    def text(self) -> str:
        """The text since the last reset."""
        parts: list[str] = []
        for event in self.events:
            if event.type == "delta":
                parts.append(event.json()["text"])
            elif event.type == "state" and event.json().get("reset"):
                parts.clear()
        return "".join(parts)
