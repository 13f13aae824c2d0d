"""The headers of every answer: what a browser may do with it, and what it may load and run because of it."""

from collections.abc import Callable

from csp.constants import HEADER, UNSAFE_EVAL
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

# What no page of ours uses. Source: https://developer.mozilla.org/docs/Web/HTTP/Headers/Permissions-Policy
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "autoplay", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer",
        "microphone", "midi", "payment", "screen-wake-lock", "usb", "xr-spatial-tracking",
    )
)  # fmt: skip
FIXED = {
    "Permissions-Policy": PERMISSIONS,
    # Other sites may not embed our answers; those of SUTAZAI_CORS_ORIGINS may still fetch them.
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For everything that is no page: there is nothing in it to load or to run.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_console = SimpleLazyObject(lambda: reverse("admin:index"))


class FixedHeadersMiddleware:
    """Add the headers that Django has no setting for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        add_fixed(response)
        return response


def add_fixed(response: HttpResponse) -> None:
    for name, value in FIXED.items():
        response.headers.setdefault(name, value)


class ContentPolicyMiddleware(CSPMiddleware):
    """Content-Security-Policy: the settings' one for pages, nothing at all for other answers.

    Scripts made from text ('unsafe-eval') run in the console alone: the theme's Alpine compiles its attributes so.
    A view allows more for its own page by `csp.decorators.csp_update`.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if _is_page(response):
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, NOTHING)
        return response

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(str(_console)):
            update = parts.update or {}
            parts.update = {**update, "script-src": [*update.get("script-src", []), UNSAFE_EVAL]}
        return parts


def _is_page(response: HttpResponseBase) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")
