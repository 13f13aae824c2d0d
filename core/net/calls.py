"""What an outgoing call is, whether a thread or the event loop makes it: its limits, and names for its failures."""

import enum
import functools
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import requests

from core import tracing
from core.net.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstByteTimeout,
    GapTimeout,
    InvalidUrl,
    NetError,
    NotHttp,
    PoolExhausted,
)

# poll() and the clock may disagree by a tick about whether a deadline has come.
CLOCK_SLACK_SECONDS = 0.005

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that each phase of a call may stay silent.

    pool: for a free place among the calls to the target; None: as long as the settings say.
    gap: between two pieces of the body, and therefore not a limit on the whole; that is the call's deadline.
    """

    connect: float = 5.0
    write: float = 10.0
    pool: float | None = None
    first_byte: float = 30.0
    gap: float = 30.0


class Phase(enum.Enum):
    POOL = "waiting for a free connection"
    CONNECT = "connecting"
    WRITE = "sending the request"
    FIRST_BYTE = "waiting for the first byte"
    BODY = "reading the body"


class Target(NamedTuple):
    """Where connections go; those to one target are interchangeable."""

    scheme: str
    host: str
    port: int


class Call:
    """One call under way. deadline: a time.monotonic() value that no phase outlasts. span: its part of a trace."""

    __slots__ = ("deadline", "phase", "span", "timeouts")

    def __init__(self, timeouts: Timeouts, deadline: float | None) -> None:
        self.timeouts = timeouts
        self.deadline = deadline
        self.phase = Phase.POOL
        self.span = tracing.NOTHING

    def trace(self, method: str, target: Target, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Begin the call's part of a trace, if it belongs to one; return the headers with those that carry it on.

        Its path and query are not told: addresses that people give us hold secrets there.
        """
        if not tracing.is_on():
            return headers
        where = {"server.address": target.host, "server.port": target.port}
        self.span = tracing.span(method, {"http.request.method": method, **where}, kind=tracing.Kind.CLIENT)
        return {**headers, **self.span.headers}

    def answered(self, status: int) -> None:
        """Tell of the call how it was answered."""
        self.span.set({"http.response.status_code": status})
        if status >= 400:
            self.span.failed(str(status))

    def limit(self, seconds: float) -> float:
        """Return `seconds`, or less when the deadline comes first; raises DeadlineExceeded when it has passed."""
        if self.deadline is None:
            return seconds
        left = self.deadline - time.monotonic()
        if left <= 0.0:
            raise DeadlineExceeded(f"the deadline passed while {self.phase.value}")
        return seconds if seconds < left else left

    def named(self, error: Exception, cause: str, *, timed_out: bool, is_foreign: bool) -> NetError:
        """Name a failure: by what our side wanted, else by the phase that it came in.

        cause: the failure in words. is_foreign: something came that is no HTTP.
        """
        if isinstance(error, NetError):
            return error
        if self.deadline is not None and time.monotonic() >= self.deadline - CLOCK_SLACK_SECONDS:
            return DeadlineExceeded(f"the deadline passed while {self.phase.value}")
        detail = f"{cause} while {self.phase.value}"
        if self.phase in {Phase.POOL, Phase.CONNECT}:
            return self._failure_to_connect(error, detail, timed_out=timed_out)
        if self.phase is Phase.FIRST_BYTE and timed_out:
            return FirstByteTimeout(f"nothing came within {self.timeouts.first_byte:g} s")
        if self.phase is Phase.FIRST_BYTE and is_foreign:
            return NotHttp(detail)
        if self.phase is Phase.BODY and timed_out:
            return GapTimeout(f"nothing more came within {self.timeouts.gap:g} s")
        return ConnectionLost(detail, body_began=self.phase is Phase.BODY)

    def _failure_to_connect(self, error: Exception, detail: str, *, timed_out: bool) -> NetError:
        if self.phase is Phase.POOL and timed_out:
            return PoolExhausted(detail)
        # What the parts below us say of addresses that they cannot use. A certificate's failure is one as well.
        if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
            return InvalidUrl(detail)
        return ConnectFailed(detail)


@functools.lru_cache(maxsize=1024)
def checked_request(method: str, url: str) -> tuple[requests.PreparedRequest, Target]:
    """Check and encode an address once: it is a fifth of what a call costs. Raises InvalidUrl."""
    request = requests.PreparedRequest()
    try:
        request.prepare(method=method, url=url)
        parts = urlsplit(request.url or "")
        target = Target(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    except KeyError:
        raise InvalidUrl(f"not an http address: {url!r}") from None
    except ValueError as error:
        raise InvalidUrl(str(error)) from error
    return request, target
