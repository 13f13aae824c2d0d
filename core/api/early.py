"""Answers that the dispatcher gives ahead of Django, with the headers that Django would have added."""

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


def dress(scope: Mapping[str, Any], response: HttpResponse) -> HttpResponse:
    """Add the headers of transport, content, framing and CORS. scope: ASGI's, of the request that is answered."""
    request = ASGIRequest({**scope, "query_string": b""}, io.BytesIO())  # a query may be no text at all
    clients.forget_untrusted(request.META)
    request.csp_nonce = ""  # type: ignore[attr-defined]  # no page is among these answers
    ContentPolicyMiddleware(_never).process_response(request, response)
    XFrameOptionsMiddleware(_never).process_response(request, response)
    CorsMiddleware(_never).add_response_headers(request, response)
    SecurityMiddleware(_never).process_response(request, response)
    add_fixed(response)
    return response


def _never(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError("The answer is there already.")
