"""HTTP calls of the event loop: what `core.net.http` is for threads, without a thread for each call.

A call is interrupted by cancelling its task, which ends the connection at once.
"""

import asyncio
import functools
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from httptools import HttpParserError
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from core.net import addresses
from core.net.addresses import Policy
from core.net.async_connection import Connection
from core.net.calls import DEFAULT_PORTS, Call, Phase, Target, Timeouts, checked_request
from core.net.errors import NetError, ResponseTooLarge
from core.net.places import Counters, Places, places


class AsyncHttpResponse:
    """Status and headers of an answer, and its body as it arrives; close it to free the connection."""

    def __init__(self, connection: Connection, call: Call, pool: "AsyncHttpPool", target: Target) -> None:
        self.status = connection.status
        self._raw_headers = connection.raw_headers
        self._connection = connection
        self._call = call
        self._pool = pool
        self._target = target
        self._is_open = True

    async def __aenter__(self) -> "AsyncHttpResponse":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @functools.cached_property
    def headers(self) -> CaseInsensitiveDict[str]:
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for raw_name, raw_value in self._raw_headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def chunks(self) -> "_Chunks":
        """Give the body's bytes as they arrive, undecoded.

        Raises GapTimeout, DeadlineExceeded, or ConnectionLost when the body is cut.
        """
        return _Chunks(self._connection, self._call, self._pool)

    async def read(self, limit_bytes: int) -> bytes:
        """Read the whole body; raises ResponseTooLarge beyond `limit_bytes`, and what chunks() raises."""
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > limit_bytes:
                raise ResponseTooLarge(f"the body is larger than {limit_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    async def drain(self, seconds: float) -> None:
        """Read the little that should be left, so that the connection can be used again; raises nothing.

        For a caller who has all it wants: a peer that does not end its body in time costs only the connection.
        """
        connection = self._connection
        try:
            while connection.take() or not connection.is_done:
                await connection.more(seconds)
        except (OSError, HttpParserError):
            pass

    def close(self) -> None:
        """Return the connection to the pool if the body was read to its end, else close it; safe to repeat."""
        if self._is_open:
            self._is_open = False
            self._pool.released(self._target, self._connection, self._call)


class _Chunks:
    """No generator: one that is left before its end costs the loop a task, which closes it."""

    __slots__ = ("_call", "_connection", "_pool")

    def __init__(self, connection: Connection, call: Call, pool: "AsyncHttpPool") -> None:
        self._connection = connection
        self._call = call
        self._pool = pool

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        connection, call = self._connection, self._call
        try:
            while True:
                await connection.more(call.limit(call.timeouts.gap))
                if data := connection.take():
                    return data
                if connection.is_done:
                    break
        except (NetError, OSError, HttpParserError) as error:
            raise self._pool.failed(call, error) from error
        raise StopAsyncIteration


class AsyncHttpPool:
    """Connections of one event loop to one kind of target; use `pool(name, policy)` to get the running loop's own.

    policy: where its calls may go, asked for at each new connection; one of `core.net.addresses`.
    """

    def __init__(self, policy: Callable[[], Policy], places: Places) -> None:
        self.loop = asyncio.get_running_loop()
        self.places = places
        self._policy = policy
        # The one that was used last comes first, so that those that are not needed stay idle.
        self._idle: dict[Target, dict[Connection, None]] = {}

    def counters(self) -> Counters:
        return self.places.counters()

    async def send(
        self,
        method: str,
        url: str,
        *,
        timeouts: Timeouts,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        deadline: float | None = None,
    ) -> AsyncHttpResponse:
        """Send a request and return as soon as the answer's headers came. Redirects are answers, not followed.

        deadline: a time.monotonic() value that no phase outlasts.
        Raises AddressRefused, ConnectFailed, PoolExhausted, FirstByteTimeout, ConnectionLost, NotHttp, InvalidUrl,
        DeadlineExceeded.
        """
        call = Call(timeouts, deadline)
        opening, target = _opening(method, url)
        request = _request(opening, call.trace(method, target, headers or {}), body)
        try:
            await self.places.take_async(target, call.limit(self.places.patience(timeouts)))
        except (NetError, TimeoutError) as error:
            failure = self.failed(call, error)
            call.span.end()
            raise failure from error
        except BaseException:  # the task was cancelled
            call.span.end()
            raise
        connection: Connection | None = None
        try:
            call.phase = Phase.CONNECT
            connection = self._reusable(target) or await self._connected(target, call)
            await _exchange(connection, request, call, is_head=method == "HEAD")
        except (NetError, OSError, ValueError, HttpParserError) as error:
            failure = self.failed(call, error)
            self.released(target, connection, call)
            raise failure from error
        except BaseException:  # the task was cancelled
            self.released(target, connection, call)
            raise
        call.answered(connection.status)
        return AsyncHttpResponse(connection, call, self, target)

    def _reusable(self, target: Target) -> Connection | None:
        idle = self._idle.get(target)
        while idle:
            connection, _ = idle.popitem()
            if connection.is_fresh():
                return connection
            connection.close()
        return None

    async def _connected(self, target: Target, call: Call) -> Connection:
        """Connect to the first address that answers, of those that the call may go to."""
        found = await self._found(target, call)
        failure: OSError = OSError("the name has no address")
        for family, kind, proto, _, address in found:
            limit = call.limit(call.timeouts.connect)
            try:
                async with asyncio.timeout(limit):
                    return await self._connected_to(socket.socket(family, kind, proto), address, target)
            except TimeoutError:
                failure = TimeoutError(f"no connection within {limit:g} s")
            except OSError as error:
                failure = error
        raise failure

    async def _found(self, target: Target, call: Call) -> list[addresses.Found]:
        """Look up and check where a call may go: in a thread, because the system has no other way to ask."""
        limit = call.limit(call.timeouts.connect)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(addresses.reachable, target.host, target.port, self._policy())
        except TimeoutError:
            raise TimeoutError(f"its name was not resolved within {limit:g} s") from None

    async def _connected_to(self, sock: socket.socket, address: Any, target: Target) -> Connection:
        is_tls = target.scheme == "https"
        try:
            sock.setblocking(False)
            await self._connect(sock, address)
            context = await asyncio.to_thread(tls) if is_tls else None  # it reads a file
        except BaseException:
            sock.close()
            raise
        # From here on the socket is the transport's, which closes it when the handshake fails.
        _, connection = await self.loop.create_connection(
            lambda: Connection(self.loop, functools.partial(self._forget, target)),
            sock=sock,
            ssl=context,
            server_hostname=target.host if is_tls else None,
        )
        return connection

    async def _connect(self, sock: socket.socket, address: Any) -> None:
        try:
            await self.loop.sock_connect(sock, address)
        except OSError as error:
            # asyncio's words tell the address, which whoever gave the name may have no business in knowing.
            raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None

    def _forget(self, target: Target, connection: Connection) -> None:
        idle = self._idle.get(target, {})
        idle.pop(connection, None)
        if not idle:
            self._idle.pop(target, None)  # targets come and go

    def failed(self, call: Call, error: Exception) -> NetError:
        """Count a failure and name it."""
        named = call.named(
            error,
            f"{type(error).__name__}: {error}",
            timed_out=isinstance(error, TimeoutError),
            is_foreign=isinstance(error, HttpParserError),
        )
        call.span.failed(named)
        if named.is_connection_error:
            self.places.count_connection_error()
        return named

    def released(self, target: Target, connection: Connection | None, call: Call) -> None:
        """Keep a connection whose answer was read to its end, close any other, and give its place back."""
        call.span.end()
        if connection is not None:
            if connection.is_reusable:
                self._idle.setdefault(target, {})[connection] = None
            else:
                connection.close()
        self.places.give(target)

    def close(self) -> None:
        """Close the idle connections."""
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.close()


async def _exchange(connection: Connection, request: bytes, call: Call, *, is_head: bool) -> None:
    """Send a request, and wait for the head of its answer."""
    call.phase = Phase.WRITE
    limit = call.limit(call.timeouts.write)
    connection.send(request, is_head=is_head)
    await connection.sent(limit)
    call.phase = Phase.FIRST_BYTE
    await connection.head(call.limit(call.timeouts.first_byte))
    call.phase = Phase.BODY


@functools.lru_cache(maxsize=1024)
def _opening(method: str, url: str) -> tuple[bytes, Target]:
    """Return the first lines of a request, and where it goes. Raises InvalidUrl."""
    request, target = checked_request(method, url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = "" if target.port == DEFAULT_PORTS[target.scheme] else f":{target.port}"
    return f"{method} {request.path_url} HTTP/1.1\r\nHost: {host}{port}\r\n".encode("ascii"), target


def _request(opening: bytes, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Write a request down; a small one is one packet. Raises ValueError for a header that would be more than one."""
    # Compressing a stream holds its first tokens back.
    lines = [f"{name}: {value}\r\n" for name, value in {"Accept-Encoding": "identity", **headers}.items()]
    text = "".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) or "\0" in text:
        raise ValueError("a header holds the end of a line")
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return b"%b%b%b\r\n%b" % (opening, text.encode("latin-1"), length, body or b"")


@functools.cache
def tls() -> ssl.SSLContext:
    """Check certificates and names as requests does."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


_pools: dict[tuple[str, Callable[[], Policy]], AsyncHttpPool] = {}


def pool(name: str, policy: Callable[[], Policy]) -> AsyncHttpPool:
    """Return the running loop's pool of that name, one of `places.NAMES`, for calls under a policy.

    It has its places in common with the pools of that name for threads.
    """
    made = _pools.get((name, policy))
    if made is None or made.loop is not asyncio.get_running_loop():
        made = _pools[name, policy] = AsyncHttpPool(policy, places(name))
    return made


def close_pools() -> None:
    """Close the idle connections of all pools, before their loop ends."""
    for made in _pools.values():
        made.close()
    _pools.clear()
