"""A request's part of a trace: from its arrival to the end of its answer, whoever gives it."""

import functools
import re

from django.http import HttpRequest

from core import tracing
from core.asgi import Application, Message, Receive, Scope, Send


async def traced(application: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Have an ASGI application answer, and tell of that."""
    if not tracing.is_on():
        await application(scope, receive, send)
        return
    method = scope["method"] if scope["method"].isalpha() else "_OTHER"
    attributes = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
    with tracing.arrived(method, scope["headers"], attributes) as span:

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell_status(span, message["status"])
            await send(message)

        await application(scope, receive, telling)


def _tell_status(span: tracing.Span, status: int) -> None:
    span.set({"http.response.status_code": status})
    if status >= 500:
        span.failed(str(status))


def note(request: HttpRequest) -> None:
    """Tell what Django knows of a request by the end: its number, and its address as the table of addresses has it."""
    if tracing.is_on():
        match = request.resolver_match
        note_route(request.method or "", _readable(match.route) if match else "", request.META["sutazai.request_id"])


@functools.lru_cache(maxsize=1024)
def _readable(route: str) -> str:
    """Write an address of Django's table as people do: /api/v1/tasks/{pk}."""
    named = re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>", lambda found: f"{{{found[1] or found[2]}}}", route)
    return "/" + re.sub(r"[\^$]|\\Z|/\?", "", named).rstrip("/")


def note_route(method: str, route: str, request_id: str) -> None:
    """Tell of the present request what is the same for all of its kind, and its number."""
    span = tracing.current()
    span.set({"http.route": route, "sutazai.request.id": request_id})
    if route:
        span.rename(f"{method} {route}")
