"""What the frame of a request may be: its address and its headers. The body has limits of its own.

The dispatcher asks here before anything is read, so that nothing behind it meets more than this.
"""

from collections.abc import Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any

from core.api.problems import Problem

MAX_HEADERS = 100
MAX_HEADERS_BYTES = 32 * 1024  # cookies and a long token fit many times
MAX_ADDRESS_BYTES = 8 * 1024  # path and query


def refusal(scope: Mapping[str, Any]) -> Problem | None:
    """Say what is wrong with the frame of a request, if anything. scope: ASGI's."""
    if len(scope["path"]) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
        detail = f"Path and query may have {MAX_ADDRESS_BYTES} bytes."
        return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "address-too-long", "The address is too long", detail)
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS or sum(map(len, chain.from_iterable(headers))) > MAX_HEADERS_BYTES:
        detail = f"A request may have {MAX_HEADERS} headers, {MAX_HEADERS_BYTES} bytes in all."
        return Problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "The headers are too large", detail
        )
    return None
