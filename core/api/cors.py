"""May a page of another origin use the API? Whoever sets SUTAZAI_CORS_ORIGINS, or a page that is refused, asks here.

A page that is not allowed cannot read the answer either, so the origin may also be named: ?origin=https://app.example
"""

from urllib.parse import urlsplit

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class CorsAnswer(serializers.Serializer):
    """origin: the one asked about. reason: why it is allowed, or what to do. credentials: cookies are taken."""

    origin = serializers.CharField()
    allowed = serializers.BooleanField()
    reason = serializers.CharField()
    credentials = serializers.BooleanField()


class CorsCheckView(APIView):
    """Tells no more than the headers of any answer do, so it is for everybody."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    @extend_schema(
        parameters=[OpenApiParameter("origin", OpenApiTypes.STR, description="Instead of the header Origin.")],
        responses=CorsAnswer,
    )
    def get(self, request: Request) -> Response:
        """Say whether pages of an origin may call the API, and why."""
        origin = request.query_params.get("origin") or request.headers.get("Origin", "")
        allowed, reason = judge(origin)
        answer = {
            "origin": origin,
            "allowed": allowed,
            "reason": reason,
            "credentials": allowed and settings.CORS_ALLOW_CREDENTIALS,
        }
        return Response(CorsAnswer(answer).data, headers={"Cache-Control": "no-store"})


def judge(origin: str) -> tuple[bool, str]:
    """Tell whether an origin is on the list, and why."""
    if not origin:
        return False, "No origin was sent. Ask from a page of the origin, or name it: ?origin=https://app.example"
    if origin in settings.CORS_ALLOWED_ORIGINS:
        return True, "The origin stands in SUTAZAI_CORS_ORIGINS."
    if origin == "null":
        return False, "Pages without an origin (files, sandboxed frames) are never allowed; serve the page by HTTP."
    near = [known for known in settings.CORS_ALLOWED_ORIGINS if urlsplit(known).hostname == _host(origin)]
    if near:
        return False, f"The origin is not {near[0]}: scheme, host and port must all be the same."
    return False, "The origin does not stand in SUTAZAI_CORS_ORIGINS. Add it there and start again."


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None
