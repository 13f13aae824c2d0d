"""A number for each request, to find it again in logs and problem reports."""

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from core import logs
from core.api import traces

# What a caller may give: short, and harmless in a log line.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")


def choose(given: str) -> str:
    """Take an id from the caller where it is harmless, else make one."""
    return given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex


class RequestIdMiddleware:
    """Take X-Request-Id from the caller where it is harmless, else make one; answer with it, and log with it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = choose(request.headers.get("X-Request-Id", ""))
        request.META["sutazai.request_id"] = request_id
        with logs.belonging_to(logs.request_id, request_id):
            response = self.get_response(request)
            traces.note(request)
        response["X-Request-Id"] = request_id
        return response


def request_id(request: HttpRequest) -> str:
    return str(request.META.get("sutazai.request_id", ""))
