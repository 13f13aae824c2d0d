"""The API's requests as Prometheus reads them, whoever answers: Django, the gateway or the dispatcher itself.

The dispatcher passes each request through `counted`. On its way, whoever knows tells which route it took and what went
wrong. Routes have names; no label holds an address that somebody asked for.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from time import perf_counter

from prometheus_client import Counter, Histogram

from core.asgi import Application, Message, Receive, Scope, Send

UNKNOWN = "unknown"  # an address that there is not
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "OTHER"
CLIENT_GONE = 499  # nginx's number for a client that left before its answer
# Whose fault an error is.
SERVER, CLIENT = "server", "client"
# Up to an answer that waits for a model. The limits that alerts and targets name (0.1, 0.2, 1 and 5 s) are among them.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_ANSWERED = ["method", "endpoint", "status"]
duration = Histogram(
    "api_request_duration_seconds", "From a request to the beginning of its answer.", _ANSWERED, buckets=SECONDS
)
answered = Counter("api_request", "Requests that were answered; 499: the client left before.", _ANSWERED)
errors = Counter(
    "api_errors",
    "Requests that were refused or failed, also while being answered, by the problem's code and whose fault it is.",
    ["method", "endpoint", "error_type", "fault"],
)


@dataclass(slots=True, eq=False)
class Request:
    """A request under way. endpoint: the name of its route. error_type and error_status: see `failed`."""

    endpoint: str = UNKNOWN
    error_type: str = ""
    error_status: int = 0


_current: ContextVar[Request | None] = ContextVar("request", default=None)
_under_way: set[Request] = set()


def routed(endpoint: str) -> None:
    """Tell which route the request under way takes, by its name."""
    if request := _current.get():
        request.endpoint = endpoint


def failed(error_type: str, status: int) -> None:
    """Tell what went wrong with the request under way, by its code.

    status: of the answer, or what it would be if the answer had not begun.
    """
    if request := _current.get():
        request.error_type, request.error_status = error_type, status


def begin_work(name: str) -> None:
    """Name what this thread works at from now on, where that is no request."""
    _current.set(Request(name))


def endpoint() -> str | None:
    """The name of the route, or of other work, that is under way here; None where nothing named is."""
    request = _current.get()
    return request.endpoint if request else None


def under_way() -> int:
    """How many requests of this process have no whole answer yet."""
    return len(_under_way)


async def counted(application: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Have a request answered, and count it."""
    request, begun, status = Request(), perf_counter(), 0
    method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD

    def noting_send(message: Message) -> Awaitable[None]:
        nonlocal status
        if not status:
            status = message["status"]
            _answered(method, request.endpoint, status, perf_counter() - begun)
        return send(message)

    token = _current.set(request)
    _under_way.add(request)
    try:
        await application(scope, receive, noting_send)
    except Exception:
        if not request.error_type:
            request.error_type, request.error_status = "internal-error", HTTPStatus.INTERNAL_SERVER_ERROR
        raise
    finally:
        _under_way.discard(request)
        _current.reset(token)
        if not status:
            status = HTTPStatus.INTERNAL_SERVER_ERROR if request.error_type else CLIENT_GONE
            _answered(method, request.endpoint, status, perf_counter() - begun)
        _count_error(method, request, status)


def _answered(method: str, endpoint: str, status: int, seconds: float) -> None:
    observe, count = _of_answers(method, endpoint, status)
    observe(seconds)
    count()


@cache
def _of_answers(method: str, endpoint: str, status: int) -> tuple[Callable[[float], None], Callable[[], None]]:
    """The histogram and the counter of these labels; looking them up takes as long as counting."""
    labels = method, endpoint, str(int(status))
    return duration.labels(*labels).observe, answered.labels(*labels).inc


def _count_error(method: str, request: Request, status: int) -> None:
    # An answer that breaks off was begun with status 200.
    told = status if status >= HTTPStatus.BAD_REQUEST else request.error_status
    if request.error_type or (told >= HTTPStatus.BAD_REQUEST and told != CLIENT_GONE):
        fault = SERVER if told >= HTTPStatus.INTERNAL_SERVER_ERROR else CLIENT
        errors.labels(method, request.endpoint, request.error_type or f"http-{int(told)}", fault).inc()
