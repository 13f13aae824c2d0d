"""HTTP calls of threads: a pool of connections per target, with limits for every phase of a call.

A call can be interrupted from another thread at any moment. Closing a response does not wake a thread that is
blocked in `recv`, and before the headers came there is no response to close, so each call registers its socket
with an `Interrupt`, which shuts the socket down.
"""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
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
from core.net.calls import Call, Phase, Target, Timeouts, checked_request
from core.net.errors import Interrupted, NetError, ResponseTooLarge
from core.net.interrupts import Interrupt
from core.net.places import Counters, Places, places

# Targets whose idle connections one pool remembers.
TARGETS_PER_POOL = 256

BLOCK_BYTES = 65_536


class _ThreadCall(Call):
    """What the connection must know about the call it serves."""

    __slots__ = ("interrupt", "policy", "sock")

    def __init__(
        self, policy: Callable[[], Policy], timeouts: Timeouts, interrupt: Interrupt | None, deadline: float | None
    ) -> None:
        super().__init__(timeouts, deadline)
        self.policy = policy
        self.interrupt = interrupt
        self.sock: socket.socket | None = None

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
        """Name a failure of the connection, or of what our side did to it."""
        if not isinstance(error, NetError) and self.interrupt is not None and self.interrupt.is_set:
            return Interrupted(f"interrupted while {self.phase.value}")
        return self.named(error, _root_cause(error), timed_out=_is_timeout(error), is_foreign=_is_foreign(error))


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
_current_call: ContextVar[_ThreadCall] = ContextVar("current_call")


class _CallConnection(HTTPConnection):
    """A connection that registers its socket with the call it serves."""

    call: _ThreadCall
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
        self.call.phase = Phase.WRITE
        self.timeout = self.call.limit(self.call.timeouts.write)
        self._unsent = bytearray()
        super().request(*args, **kwargs)
        self._flush()
        self.call.phase = Phase.FIRST_BYTE

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
        self.call.phase = Phase.BODY
        return response

    def close(self) -> None:
        self.call.detach()
        super().close()


class _CallTLSConnection(_CallConnection, HTTPSConnection):
    """The same over TLS."""


class _CallPool(HTTPConnectionPool):
    """Lends connections to calls, and takes the socket from the call on return.

    There is always one to lend: who calls has a place, and there are as many connections as places.
    """

    ConnectionCls = _CallConnection

    def _get_conn(self, timeout: float | None = None) -> Any:  # requests passes none
        conn: Any = super()._get_conn(timeout=timeout)
        conn.call = _current_call.get()
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

    def __init__(self, response: requests.Response, call: _ThreadCall, pool: "HttpPool", target: Target) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._call = call
        self._pool = pool
        self._target = target
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
        self._pool.places.give(self._target)
        self._call.span.end()


class HttpPool:
    """Connections to one kind of target; use `pool(name, policy)` to get the process's own.

    policy: where its calls may go, asked for at each new connection; one of `core.net.addresses`.
    """

    def __init__(self, policy: Callable[[], Policy], places: Places) -> None:
        self.places = places
        self._policy = policy
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc: a node is where its row says
        for scheme in ("http://", "https://"):
            adapter = _Adapter(pool_connections=TARGETS_PER_POOL, pool_maxsize=places.limit)
            self._session.mount(scheme, adapter)

    def counters(self) -> Counters:
        return self.places.counters()

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
        call = _ThreadCall(self._policy, timeouts, interrupt, deadline)
        checked, target = checked_request(method, url)
        request = _prepared(checked, call.trace(method, target, headers or {}), body)
        try:
            call.raise_if_interrupted()
            self.places.take(target, call.limit(self.places.patience(timeouts)))
        except (NetError, TimeoutError) as error:
            failure = self.failed(call, error)
            call.span.end()
            raise failure from error
        try:
            response = self._sent(request, call)
        except BaseException:
            self.places.give(target)
            call.span.end()
            raise
        call.answered(response.status_code)
        return HttpResponse(response, call, self, target)

    def _sent(self, request: requests.PreparedRequest, call: _ThreadCall) -> requests.Response:
        call.phase = Phase.CONNECT
        token = _current_call.set(call)
        try:
            return self._session.get_adapter(request.url or "").send(
                request, stream=True, timeout=(call.timeouts.connect, call.limit(call.timeouts.first_byte))
            )
        except (NetError, OSError, ValueError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            call.detach()
            raise self.failed(call, error) from error
        finally:
            _current_call.reset(token)

    def failed(self, call: _ThreadCall, error: Exception) -> NetError:
        """Count a failure and name it."""
        named = call.translate(error)
        call.span.failed(named)
        if named.is_connection_error:
            self.places.count_connection_error()
        return named

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


def _prepared(
    checked: requests.PreparedRequest, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
) -> requests.PreparedRequest:
    request = checked.copy()
    request.headers = CaseInsensitiveDict(headers)
    # Compressing a stream holds its first tokens back.
    request.headers.setdefault("Accept-Encoding", "identity")
    if isinstance(body, bytes):
        request.headers["Content-Length"] = str(len(body))
    request.body = body  # type: ignore[assignment]  # requests sends iterables in chunks; its stubs know bytes only
    return request


_pools: dict[tuple[str, Callable[[], Policy]], HttpPool] = {}
_pools_lock = threading.Lock()


def pool(name: str, policy: Callable[[], Policy]) -> HttpPool:
    """Return the process's pool of that name, one of `places.NAMES`, for calls under a policy.

    What a policy allowed is no connection for calls under another, so each has its own.
    """
    with _pools_lock:
        if (name, policy) not in _pools:
            _pools[name, policy] = HttpPool(policy, places(name))
        return _pools[name, policy]
