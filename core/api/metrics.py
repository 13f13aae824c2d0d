"""GET /metrics, for Prometheus and for operators."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.utils.crypto import constant_time_compare
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from core.access.authentication import BearerAuthentication
from core.access.permissions import MayDoIt
from core.api.limits import RequestThrottle
from core.models import Verb
from core.ops import metrics


class _AnyFormat(BaseContentNegotiation):
    """Accept whatever is asked for: prometheus_client knows its formats, and has one for everybody."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class _TokenAuthentication(BearerAuthentication):
    """`Authorization: Bearer` with SUTAZAI_METRICS_TOKEN: a program that may read the metrics, and is nobody else."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if not settings.METRICS_TOKEN or scheme.lower() != self.scheme.lower():
            return None
        is_right = constant_time_compare(text.strip(), settings.METRICS_TOKEN)
        return (AnonymousUser(), _TOKEN) if is_right else None


_TOKEN = object()


class _MayRead(MayDoIt):
    def has_permission(self, request: Request, view: object) -> bool:
        return request.auth is _TOKEN or super().has_permission(request, view)


class _Throttle(RequestThrottle):
    """Whoever has the token is counted for nothing: counting asks the database, which may be what is away."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        return request.auth is _TOKEN or super().allow_request(request, view)


@extend_schema(exclude=True)
class MetricsView(APIView):
    """Metrics name nodes and models, so they are for operators, and for keys of theirs that may read nothing else."""

    read_verb = Verb.METRICS
    authentication_classes = [_TokenAuthentication, *APIView.authentication_classes]
    permission_classes = [_MayRead]
    throttle_classes = [_Throttle]
    content_negotiation_class = _AnyFormat

    def get(self, request: Request) -> HttpResponse:
        content_type, body = metrics.page(request.headers.get("Accept", ""))
        return HttpResponse(body, content_type=content_type)
