"""The one way out for HTTP: a pool of connections per target, with limits for every phase of a call.

A call can be interrupted from another thread at any moment. Closing a response does not wake a thread that is
blocked in `recv`, and before the headers came there is no response to close, so each call registers its socket
with an `Interrupt`, which shuts the socket down.
"""

import contextlib
import enum
import errno
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException, RemoteDisconnected
from types import TracebackType
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.wait import wait_for_write

from core.net import addresses
from core.net.addresses import Policy
from core.net.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstByteTimeout,
    GapTimeout,
    Interrupted,
    InvalidUrl,
    NetError,
    NotHttp,
    PoolExhausted,
    ResponseTooLarge,
)

# Targets (hosts) whose connections one pool remembers, and connections per target. A call beyond that waits for
# `Timeouts.pool` seconds; threads, not sockets, are meant to be the scarce thing.
TARGETS_PER_POOL = 256
CONNECTIONS_PER_TARGET = 256

BLOCK_BYTES = 65_536

# poll() and the clock may disagree by a tick about whether a deadline has come.
CLOCK_SLACK_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that each phase of a call may stay silent.

    gap: between two pieces of the body, and therefore not a limit on the whole; that is the call's deadline.
    """

    connect: float = 5.0
    write: float = 10.0
    pool: float = 5.0
    first_byte: float = 30.0
    gap: float = 30.0


class Interrupt:
    """A switch that ends the calls it was given to, for good: a call begun afterwards raises at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_set = False

    @property
    def is_set(self) -> bool:
        return self._is_set

    def shutdown(self) -> None:
        """End every call under way within milliseconds; safe from any thread, and more than once."""
        with self._lock:
            self._is_set = True
            for sock in self._sockets:
                with contextlib.suppress(OSError):  # already closed by the peer
                    # Not SSLSocket.shutdown, which would drop the TLS state under the reading thread.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def attach(self, sock: socket.socket) -> None:
        """Register a socket; raises Interrupted when it is already too late."""
        with self._lock:
            if self._is_set:
                raise Interrupted("interrupted")
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """Forget a socket, before it is closed or lent to another call."""
        with self._lock:
            self._sockets.discard(sock)


class _Phase(enum.Enum):
    POOL = "waiting for a free connection"
    CONNECT = "connecting"
    WRITE = "sending the request"
    FIRST_BYTE = "waiting for the first byte"
    BODY = "reading the body"


class _Call:
    """What the connection must know about the call it serves."""

    __slots__ = ("deadline", "interrupt", "phase", "policy", "sock", "timeouts")

    def __init__(
        self, policy: Callable[[], Policy], timeouts: Timeouts, interrupt: Interrupt | None, deadline: float | None
    ) -> None:
        self.policy = policy
        self.timeouts = timeouts
        self.interrupt = interrupt
        self.deadline = deadline
        self.phase = _Phase.POOL
        self.sock: socket.socket | None = None

    def patience(self, seconds: float) -> float:
        """Return `seconds`, or less when the deadline comes first, or 0 when it has passed."""
        return seconds if self.deadline is None else max(min(seconds, self.deadline - time.monotonic()), 0.0)

    def limit(self, seconds: float) -> float:
        """Return `seconds`, or less when the deadline comes first; raises DeadlineExceeded when it has passed."""
        left = self.patience(seconds)
        if left == 0.0:
            raise DeadlineExceeded(f"the deadline passed while {self.phase.value}")
        return left

    def raise_if_interrupted(self) -> None:
        if self.interrupt is not None and self.interrupt.is_set:
            raise Interrupted(f"interrupted while {self.phase.value}")

    def attach(self, sock: socket.socket) -> None:
        """Register the socket in place of the one before (TLS wraps a socket in another)."""
        if sock is self.sock:
            return
        self.detach()
        if self.interrupt is not None:
            self.interrupt.attach(sock)
        self.sock = sock

    def detach(self) -> None:
        if self.interrupt is not None and self.sock is not None:
            self.interrupt.detach(self.sock)
        self.sock = None

    def translate(self, error: Exception) -> NetError:
        """Name a failure: by what our side wanted, else by the phase that it came in."""
        if isinstance(error, NetError):
            return error
        if self.interrupt is not None and self.interrupt.is_set:
            return Interrupted(f"interrupted while {self.phase.value}")
        if self.deadline is not None and time.monotonic() >= self.deadline - CLOCK_SLACK_SECONDS:
            return DeadlineExceeded(f"the deadline passed while {self.phase.value}")
        return self._failure(error)

    def _failure(self, error: Exception) -> NetError:
        detail = f"{_root_cause(error)} while {self.phase.value}"
        if self.phase in {_Phase.POOL, _Phase.CONNECT}:
            return _failure_to_connect(error, detail)
        if self.phase is _Phase.FIRST_BYTE and _is_timeout(error):
            return FirstByteTimeout(f"nothing came within {self.timeouts.first_byte:g} s")
        if self.phase is _Phase.FIRST_BYTE and _is_foreign(error):
            return NotHttp(detail)
        if self.phase is _Phase.BODY and _is_timeout(error):
            return GapTimeout(f"nothing more came within {self.timeouts.gap:g} s")
        return ConnectionLost(detail, body_began=self.phase is _Phase.BODY)


def _failure_to_connect(error: Exception, detail: str) -> NetError:
    if isinstance(error, urllib3.exceptions.EmptyPoolError):
        return PoolExhausted(detail)
    if isinstance(error, ValueError):  # what requests and urllib3 say of addresses they cannot use
        return InvalidUrl(detail)
    return ConnectFailed(detail)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from what requests raised down to what the socket raised."""
    inner: Any = error
    while isinstance(inner, BaseException):
        yield inner
        wrapped = [arg for arg in inner.args if isinstance(arg, BaseException)]
        inner = getattr(inner, "reason", None) or (wrapped[-1] if wrapped else inner.__cause__)


def _root_cause(error: BaseException) -> str:
    *_, root = _causes(error)
    return f"{type(root).__name__}: {root}"


def _is_timeout(error: BaseException) -> bool:
    kinds = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
    return any(isinstance(cause, kinds) for cause in _causes(error))


def _is_foreign(error: BaseException) -> bool:
    """True if something came that is no HTTP; a connection closed without a word is not that."""
    *_, root = _causes(error)
    return isinstance(root, HTTPException) and not isinstance(root, RemoteDisconnected)


# requests offers no way to hand a value down to the connection, so the call travels beside it.
_current_call: ContextVar[_Call] = ContextVar("current_call")


class _CallConnection(HTTPConnection):
    """A connection that registers its socket with the call it serves."""

    call: _Call
    _unsent: bytearray

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers, of those that the call may go to."""
        failure: OSError = OSError("the name has no address")
        try:
            for family, kind, proto, _, address in addresses.reachable(self._dns_host, self.port, self.call.policy()):
                try:
                    return self._connected(socket.socket(family, kind, proto), address)
                except OSError as error:
                    self.call.raise_if_interrupted()
                    failure = error
        except socket.gaierror as error:
            failure = error
        # As urllib3 names it; it would take a bare ECONNRESET for one that came after the request was sent.
        raise NewConnectionError(self, str(failure)) from failure

    def _connected(self, sock: socket.socket, address: Any) -> socket.socket:
        """Connect a socket, or close it.

        Registered once the attempt has begun: shutting down a socket before that has no effect on it.
        """
        try:
            limit = self.call.limit(self.call.timeouts.connect)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                self.call.attach(sock)
                if not wait_for_write(sock, limit):
                    raise TimeoutError(f"no connection within {limit:g} s")
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            sock.settimeout(limit)
        except BaseException:
            self.call.detach()
            sock.close()
            raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.call.attach(self.sock)  # a reused socket, or the one that TLS wrapped around the first
        self.call.phase = _Phase.WRITE
        self.timeout = self.call.limit(self.call.timeouts.write)
        self._unsent = bytearray()
        super().request(*args, **kwargs)
        self._flush()
        self.call.phase = _Phase.FIRST_BYTE

    def send(self, data: Any) -> None:
        """Join the headers with a small body: a system call costs as much as all else in a call."""
        self._unsent += data
        if len(self._unsent) > BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        super().send(bytes(self._unsent))
        self._unsent.clear()

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # as in urllib3
        sock = self.sock
        response = super().getresponse()
        # "Connection: close" made the line above close (and detach) the connection, while the body still comes.
        self.call.attach(sock)
        self.call.phase = _Phase.BODY
        return response

    def close(self) -> None:
        self.call.detach()
        super().close()


class _CallTLSConnection(_CallConnection, HTTPSConnection):
    """The same over TLS."""


class _CallPool(HTTPConnectionPool):
    """Lends connections to calls: waits for `Timeouts.pool`, and takes the socket from the call on return."""

    ConnectionCls = _CallConnection

    def _get_conn(self, timeout: float | None = None) -> Any:  # requests passes none
        call = _current_call.get()
        # Raising here would make urllib3 return a connection that it never lent.
        conn: Any = super()._get_conn(timeout=call.patience(call.timeouts.pool))
        conn.call = call
        call.phase = _Phase.CONNECT
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.call.detach()
        super()._put_conn(conn)


class _CallTLSPool(_CallPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _CallTLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _CallPool, "https": _CallTLSPool}


class HttpResponse:
    """Status and headers of an answer, and its body as it arrives; close it to free the connection."""

    def __init__(self, response: requests.Response, call: _Call, pool: "HttpPool") -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._call = call
        self._pool = pool
        self._is_open = True

    def __enter__(self) -> "HttpResponse":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chunks(self) -> Iterator[bytes]:
        """Give the body's bytes as they arrive, undecoded.

        Raises GapTimeout, DeadlineExceeded, Interrupted, or ConnectionLost when the body is cut.
        """
        raw = self._response.raw
        current_limit = self._call.timeouts.first_byte
        try:
            while True:
                self._call.raise_if_interrupted()
                limit = self._call.limit(self._call.timeouts.gap)
                if limit != current_limit and self._call.sock is not None:
                    self._call.sock.settimeout(limit)
                    current_limit = limit
                data = raw.read1(BLOCK_BYTES)
                if not data:
                    break
                yield data
        except (NetError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise self._pool.failed(self._call, error) from error
        # A body that ends with the connection cannot tell the shutdown from its end.
        self._call.raise_if_interrupted()

    def read(self, limit_bytes: int) -> bytes:
        """Read the whole body; raises ResponseTooLarge beyond `limit_bytes`, and what chunks() raises."""
        parts: list[bytes] = []
        size = 0
        for part in self.chunks():
            size += len(part)
            if size > limit_bytes:
                raise ResponseTooLarge(f"the body is larger than {limit_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    def drain(self, seconds: float) -> None:
        """Read the little that should be left, so that the connection can be used again; raises nothing.

        For a caller who has all it wants: a peer that does not end its body in time costs only the connection.
        """
        if self._call.sock is None:
            return
        with contextlib.suppress(OSError, ValueError, urllib3.exceptions.HTTPError):
            self._call.sock.settimeout(seconds)
            while self._response.raw.read1(BLOCK_BYTES):
                pass

    def close(self) -> None:
        """Return the connection to the pool if the body was read to its end, else close it; safe to repeat."""
        if not self._is_open:
            return
        self._is_open = False
        self._call.detach()
        self._response.close()
        self._pool.released()


@dataclass(slots=True)
class Counters:
    """What a pool did since the process started; `in_use` is how many answers are open now."""

    requests: int = 0
    connection_errors: int = 0
    in_use: int = 0


class HttpPool:
    """Connections to one kind of target; use `pool(name, policy)` to get the process's own.

    policy: where its calls may go, asked for at each new connection; one of `core.net.addresses`.
    """

    def __init__(
        self, name: str, policy: Callable[[], Policy], *, connections_per_target: int = CONNECTIONS_PER_TARGET
    ) -> None:
        self.name = name
        self._policy = policy
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc: a node is where its row says
        for scheme in ("http://", "https://"):
            adapter = _Adapter(pool_connections=TARGETS_PER_POOL, pool_maxsize=connections_per_target, pool_block=True)
            self._session.mount(scheme, adapter)
        self._counters = Counters()
        self._lock = threading.Lock()

    def counters(self) -> Counters:
        """A copy of the counters."""
        with self._lock:
            return Counters(self._counters.requests, self._counters.connection_errors, self._counters.in_use)

    def send(
        self,
        method: str,
        url: str,
        *,
        timeouts: Timeouts,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> HttpResponse:
        """Send a request and return as soon as the answer's headers came. Redirects are answers, not followed.

        deadline: a time.monotonic() value that no phase outlasts.
        Raises AddressRefused, ConnectFailed, PoolExhausted, FirstByteTimeout, ConnectionLost, NotHttp, InvalidUrl,
        DeadlineExceeded, Interrupted.
        """
        call = _Call(self._policy, timeouts, interrupt, deadline)
        with self._lock:
            self._counters.requests += 1
        token = _current_call.set(call)
        try:
            call.raise_if_interrupted()
            request = _prepare(method, url, headers or {}, body)
            response = self._session.get_adapter(url).send(
                request, stream=True, timeout=(timeouts.connect, call.limit(timeouts.first_byte))
            )
        except (NetError, OSError, ValueError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            call.detach()
            raise self.failed(call, error) from error
        finally:
            _current_call.reset(token)
        with self._lock:
            self._counters.in_use += 1
        return HttpResponse(response, call, self)

    def failed(self, call: _Call, error: Exception) -> NetError:
        """Count a failure and name it."""
        named = call.translate(error)
        if named.is_connection_error:
            with self._lock:
                self._counters.connection_errors += 1
        return named

    def released(self) -> None:
        with self._lock:
            self._counters.in_use -= 1

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


@functools.lru_cache(maxsize=1024)
def _checked_request(method: str, url: str) -> requests.PreparedRequest:
    """Check and encode an address once: it is a fifth of what a call costs."""
    request = requests.PreparedRequest()
    request.prepare(method=method, url=url)
    return request


def _prepare(
    method: str, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
) -> requests.PreparedRequest:
    request = _checked_request(method, url).copy()
    request.headers = CaseInsensitiveDict(headers)
    # Compressing a stream holds its first tokens back.
    request.headers.setdefault("Accept-Encoding", "identity")
    if isinstance(body, bytes):
        request.headers["Content-Length"] = str(len(body))
    request.body = body  # type: ignore[assignment]  # requests sends iterables in chunks; its stubs know bytes only
    return request


_pools: dict[str, HttpPool] = {}
_pools_lock = threading.Lock()


def pool(name: str, policy: Callable[[], Policy]) -> HttpPool:
    """Return the process's pool of that name ("ollama", "external"), made with this policy when first asked for."""
    with _pools_lock:
        if name not in _pools:
            _pools[name] = HttpPool(name, policy)
        return _pools[name]


def pools() -> list[HttpPool]:
    """All pools that were used so far, by name."""
    with _pools_lock:
        return [_pools[name] for name in sorted(_pools)]
