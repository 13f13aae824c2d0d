"""A connection of the event loop: what came of the answer under way, and whoever waits for more of it."""

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from urllib3.util.wait import wait_for_read

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
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._give_up_at = 0.0  # loop.time(), for whoever waits
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._is_sending = False
        self._is_paused = False
        self._begin(is_head=False)
        self.is_done = True

    def _begin(self, *, is_head: bool) -> None:
        """Expect an answer. is_head: to a HEAD, which never has a body."""
        self._is_head = is_head
        self._head_bytes = 0
        self._parts: list[bytes] = []
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
        return not wait_for_read(transport.get_extra_info("socket"), timeout=0)

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
            await self._news(give_up_at)

    async def head(self, limit_seconds: float) -> None:
        """Wait for status and headers. Raises TimeoutError, HttpParserError, and what ended the connection."""
        give_up_at = self._loop.time() + limit_seconds
        while not self.has_head:
            await self._news(give_up_at)

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
            await self._news(self._loop.time() + limit_seconds)

    def close(self) -> None:
        """End the connection at once: who is to notice that we left must not wait for what we did not read."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    # --- waiting --------------------------------------------------------------------------------------------------

    async def _news(self, give_up_at: float) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        self._expect_until(give_up_at)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _expect_until(self, give_up_at: float) -> None:
        """Set the alarm; one that is set for an earlier moment will see by itself that it is too early."""
        self._give_up_at = give_up_at
        if self._timer is not None:
            if self._timer.when() <= give_up_at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(give_up_at, self._alarm)

    def _alarm(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._give_up_at:
            self._timer = self._loop.call_at(self._give_up_at, self._alarm)
        else:
            self._waiter.set_exception(TimeoutError())

    def _tell(self) -> None:
        """Wake whoever waits, to look at what there is; a failure is met by who waits for more than that."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        self._tell()

    # --- what asyncio tells ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's looks like one
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
            self._tell()

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
        self._tell()
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_sending = True

    def resume_writing(self) -> None:
        self._is_sending = False
        self._tell()

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

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.has_head and not self._is_head:
            self.is_done = True
            self._keeps_alive = self._parser.should_keep_alive()
