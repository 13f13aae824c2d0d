"""GET /metrics, for Prometheus and for operators."""

from collections.abc import Iterable

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

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


@extend_schema(exclude=True)
class MetricsView(APIView):
    """Metrics name nodes and models, so they are for operators, and for keys of theirs that may read nothing else."""

    read_verb = Verb.METRICS
    content_negotiation_class = _AnyFormat

    def get(self, request: Request) -> HttpResponse:
        content_type, body = metrics.page(request.headers.get("Accept", ""))
        return HttpResponse(body, content_type=content_type)
