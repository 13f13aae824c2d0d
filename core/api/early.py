"""Answers that the dispatcher gives ahead of Django, with the headers that Django would have added."""

import functools
import io
from collections.abc import Mapping
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

from core.api.headers import ContentPolicyMiddleware, add_fixed
from core.net import clients

OF_BODIES = {"content-type", "content-length"}


def dress(scope: Mapping[str, Any], response: HttpResponse) -> HttpResponse:
    """Add the headers of transport, content, framing and CORS. scope: ASGI's, of the request that is answered."""
    request = request_of(scope)
    request.csp_nonce = ""  # type: ignore[attr-defined]  # no page is among these answers
    ContentPolicyMiddleware(_never).process_response(request, response)
    XFrameOptionsMiddleware(_never).process_response(request, response)
    CorsMiddleware(_never).add_response_headers(request, response)
    SecurityMiddleware(_never).process_response(request, response)
    add_fixed(response)
    return response


@functools.cache
def plain_headers(scheme: str) -> list[tuple[bytes, bytes]]:
    """The same headers for answers to programs, which name no origin. scheme: http or https."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "scheme": scheme}
    return header_lines(dress(scope, HttpResponse(content_type="application/json")))  # no page


def header_lines(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    """A response's headers as ASGI has them, without those of its body."""
    lines = [(name.lower(), value) for name, value in response.items()]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines if name not in OF_BODIES]


def request_of(scope: Mapping[str, Any]) -> HttpRequest:
    """Read a request without its query, which may be no text at all, and without its body."""
    request = ASGIRequest({**scope, "query_string": b""}, io.BytesIO())
    clients.forget_untrusted(request.META)
    return request


def _never(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError("The answer is there already.")
