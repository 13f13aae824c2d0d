"""A connection of the event loop: what came of the answer under way, and whoever waits for more of it."""

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from core.ops.news import News

MAX_HEAD_BYTES = 65_536

# Of a body that nobody reads as fast as it comes; beyond this the peer has to wait.
MAX_UNREAD_BYTES = 262_144

# Of what is no HTTP; enough to tell what it is.
SHOWN_BYTES = 80


class Connection(asyncio.Protocol):
    """Sends one request after the other, and reads their answers.

    lost: called when the connection has ended, whoever ended it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: "Callable[[Connection], None]") -> None:
        self._loop = loop
        self._lost = lost
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # what httptools calls for each piece
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._news = News(loop)
        self._readable = select.poll()
        self._failure: Exception | None = None
        self._is_sending = False
        self._is_paused = False
        self._begin(is_head=False)
        self.is_done = True

    def _begin(self, *, is_head: bool) -> None:
        """Expect an answer. is_head: to a HEAD, which never has a body."""
        self._is_head = is_head
        self._head_bytes = 0
        self._parts.clear()
        self._unread_bytes = 0
        self._has_length = False
        self._keeps_alive = False
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.is_done = False

    # --- what the pool asks ---------------------------------------------------------------------------------------

    @property
    def is_reusable(self) -> bool:
        """True if an answer was read to its end, and the peer agreed to another request."""
        is_over = self.is_done and not self._parts and not self._is_sending
        return is_over and self._keeps_alive and self._failure is None

    def is_fresh(self) -> bool:
        """Tell whether an idle connection still stands: the loop may not have looked at it for a while."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return not self._readable.poll(0)

    def send(self, request: bytes, *, is_head: bool) -> None:
        """Begin a request. Raises ConnectionError."""
        if self._transport is None:
            raise ConnectionError("the peer closed the connection")
        self._begin(is_head=is_head)
        self._transport.write(request)

    async def sent(self, limit_seconds: float) -> None:
        """Wait until the request has left, or the answer came before. Raises TimeoutError, and what ended it."""
        give_up_at = self._loop.time() + limit_seconds
        while self._is_sending and not self.has_head:
            await self._changed(give_up_at)

    async def head(self, limit_seconds: float) -> None:
        """Wait for status and headers. Raises TimeoutError, HttpParserError, and what ended the connection."""
        give_up_at = self._loop.time() + limit_seconds
        while not self.has_head:
            await self._changed(give_up_at)

    def take(self) -> bytes:
        """Return what came of the body since the last time."""
        parts = self._parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def more(self, limit_seconds: float) -> None:
        """Wait until more of the body may be there, or its end. Raises as `head` does."""
        if not self.is_done and not self._parts:
            await self._changed(self._loop.time() + limit_seconds)

    def close(self) -> None:
        """End the connection at once: who is to notice that we left must not wait for what we did not read."""
        self._news.close()
        if self._transport is not None:
            self._transport.abort()

    # --- waiting --------------------------------------------------------------------------------------------------

    def _changed(self, give_up_at: float) -> Awaitable[None]:
        """Wait for whatever comes next, which is to be looked at; a failure is met by who waits for more than that."""
        if self._failure is not None:
            raise self._failure
        return self._news.wait(give_up_at)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        self._news.tell()

    # --- what asyncio tells ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's looks like one
        self._readable.register(transport.get_extra_info("socket"), select.POLLIN)
        self._transport.set_write_buffer_limits(high=0)  # so that pause_writing tells of every byte that waits

    def data_received(self, data: bytes) -> None:
        if self.is_done:
            self._fail(ConnectionError("the peer spoke without being asked"))
            self.close()
            return
        if not self.has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if not self.has_head and self._head_bytes > MAX_HEAD_BYTES:
                raise HttpParserError(f"the headers are longer than {MAX_HEAD_BYTES} bytes")
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(HttpParserError(f"{error} {self._beginning(data)}".strip()))
            self.close()
        else:
            if self._parts:
                self._unread_bytes += len(data)  # with what frames it
                if self._unread_bytes > MAX_UNREAD_BYTES:
                    self._pause()
            self._news.tell()

    def _pause(self) -> None:
        """Have the peer wait until somebody reads what came."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _beginning(self, data: bytes) -> str:
        """Show the first line of what is no answer; never a header."""
        is_first = not self.status and self._head_bytes == len(data)
        return repr(data.split(b"\n", 1)[0][:SHOWN_BYTES]) if is_first else ""

    def connection_lost(self, exc: Exception | None) -> None:
        ends_with_connection = self.has_head and not self._has_length and exc is None
        if ends_with_connection:
            self.is_done = True
        self._keeps_alive = False
        if not self.is_done:
            self._fail(exc or ConnectionError("the peer closed the connection"))
        self._transport = None
        self._news.tell()
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_sending = True

    def resume_writing(self) -> None:
        self._is_sending = False
        self._news.tell()

    # --- what httptools reads -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_done:
            raise ConnectionError("the peer sent a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # else it follows the body
            self.raw_headers.append((name, value))
            self._has_length = self._has_length or name.lower() in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer, such as 103; the real one follows
            self.raw_headers.clear()
            self._has_length = False
            return
        self.status = status
        self.has_head = True
        if self._is_head:
            self.is_done = True

    def on_message_complete(self) -> None:
        if self.has_head and not self._is_head:
            self.is_done = True
            self._keeps_alive = self._parser.should_keep_alive()
