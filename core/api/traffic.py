"""Which of Django's routes a request takes, for the metrics."""

import contextlib
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, ResolverMatch, resolve

from core.ops import traffic


class RouteMiddleware:
    """Tells the name of the route, also where the request is answered before its view is called."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.resolver_match is None and traffic.endpoint() is not None:
            note_route_of(request.path_info)
        return response

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        if request.resolver_match is not None:
            traffic.routed(_name(request.resolver_match))


def note_route_of(path: str) -> None:
    """Tell the name of the route that an address has, where nobody calls its view."""
    with contextlib.suppress(Resolver404):  # an address that there is not has no name
        traffic.routed(_name(resolve(path)))


def _name(match: ResolverMatch) -> str:
    """The name of a route, or where it has none, its pattern."""
    return match.view_name or match.route
