import pytest
from django.test import Client

from core import tracing
from core.api import traces
from tests.otlp import Collector


@pytest.mark.parametrize(
    ("route", "readable"),
    [
        ("", "/"),
        ("api/v1/^tasks/(?P<pk>[^/.]+)/events/?$", "/api/v1/tasks/{pk}/events"),
        ("api/v1/^agents/(?P<agent_pk>[^/.]+)/versions/(?P<number>[0-9]{1,9})/?$",
         "/api/v1/agents/{agent_pk}/versions/{number}"),
        ("account/invitation/<str:token>/", "/account/invitation/{token}"),
        ("^metrics/?$", "/metrics"),
    ],
)  # fmt: skip
def test_an_address_is_written_as_people_do(route, readable):
    assert traces._readable(route) == readable


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "route"),
    [("/api/v1/tasks/018f2b6e-0000-7000-8000-000000000000", "/api/v1/tasks/{pk}"), ("/nowhere", None)],
)
def test_a_request_is_told_by_its_route_and_number_never_by_its_path(monkeypatch, path, route):
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        tracing.start("test")
        with tracing.arrived("GET", [], {}):
            Client().get(path, headers={"X-Request-Id": "request-1"})
        tracing.stop()
    span = next(span for span in collector.spans() if not span.parent)
    assert span.name == (f"GET {route}" if route else "GET")
    assert span.attributes == {"sutazai.request.id": "request-1"} | ({"http.route": route} if route else {})
    assert b"018f2b6e" not in b"".join(collector.bodies)
