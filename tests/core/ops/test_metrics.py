import socket
import threading

import pytest
import requests
from django.contrib.sessions.backends.db import SessionStore
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from core.ops import health, heartbeat, metrics
from core.ops.health import Health
from tests.services.server import free_port

pytestmark = pytest.mark.django_db

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"


def samples(families):
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_it_speaks_the_plain_format_to_everybody():
    for accept in ("", "*/*", "text/html", "nonsense;;=,"):
        content_type, body = metrics.page(accept)
        assert content_type.startswith("text/plain")
        assert ("sutazai_workers",) in samples(parse_text(body.decode()))


def test_it_speaks_openmetrics_to_who_asks_for_it():
    content_type, body = metrics.page(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert ("sutazai_workers",) in samples(parse_openmetrics(body.decode()))


def test_it_tells_of_workers_sign_ins_and_what_health_found(monkeypatch):
    own = Health()
    monkeypatch.setattr(health, "_health", own)
    monkeypatch.setattr(health, "states", own.states)
    heartbeat.beat()
    SessionStore().create()
    own.look()
    values = samples(parse_text(metrics.page("")[1].decode()))
    assert values["sutazai_workers",] == 1
    assert values["sutazai_sign_in_sessions",] == 1
    assert values["api_dependency_status", ("dependency", "database")] == 1
    assert values["api_dependency_status", ("dependency", "models")] == 0.5  # no model server: degraded


def test_requests_and_queries_are_counted_by_django_prometheus(client):
    client.get("/login")
    names = {key[0] for key in samples(parse_text(metrics.page("")[1].decode()))}
    assert "django_http_requests_before_middlewares_total" in names
    assert "django_db_execute_total" in names


@pytest.mark.django_db(transaction=True)
def test_the_own_port_serves_them_without_credentials(settings, wait_until):
    settings.METRICS_HOST, settings.METRICS_PORT = "127.0.0.1", free_port()
    with socket.create_server(("127.0.0.1", settings.METRICS_PORT)):  # the process before us is still there
        metrics.serve_on_own_port()
    address = f"http://127.0.0.1:{settings.METRICS_PORT}/metrics"

    def answers():
        try:
            return requests.get(address, timeout=10)
        except requests.ConnectionError:
            return None

    wait_until(lambda: answers() is not None)
    answer = answers()
    assert answer.status_code == 200
    assert ("sutazai_workers",) in samples(parse_text(answer.text))


def test_without_a_port_nothing_listens(settings):
    settings.METRICS_PORT = None
    before = threading.active_count()
    metrics.serve_on_own_port()
    assert threading.active_count() == before
