"""The OpenAPI document and its pages."""

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.problems import CONTENT_TYPE

PROBLEM_SCHEMA = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable, for programs."},
        "instance": {"type": "string"},
        "request_id": {"type": "string", "description": "Also in the server's log."},
        "errors": {
            "type": "object",
            "description": "Fields that are at fault, and what is wrong with each.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "core.access.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or an access token of POST /api/auth/login.",
        }


class BrowserScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "core.access.authentication.BrowserAuthentication"
    name = "browser"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of every operation that its errors are problem documents."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    answer = {
        "description": "What went wrong.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = answer
    return result


class DocsView(SpectacularSwaggerView):
    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show the page, isolated from other windows as all others are: nobody signs in through a pop-up."""
        response: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        del response["Cross-Origin-Opener-Policy"]
        return response


schema = SpectacularAPIView.as_view()
# A page for people, so whoever has not signed in is led to the sign-in page.
docs = login_required(DocsView.as_view(url_name="schema"))
