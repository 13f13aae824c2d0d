import socket
import threading

import pytest
import requests
from django.contrib.sessions.backends.db import SessionStore
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from core.ops import health, heartbeat, metrics
from core.ops.health import Health
from tests.services.server import free_port

pytestmark = pytest.mark.django_db

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"


def samples(families):
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


ERRORS = "sutazai_metrics_reader_errors_total"
KETTLE_READER = "tests.core.ops.test_metrics.kettle_metrics"


@pytest.fixture
def health_found(monkeypatch):
    """What health finds now: all of it well, but for the model servers that there are none of."""
    own = Health()
    monkeypatch.setattr(health, "_health", own)
    monkeypatch.setattr(health, "states", own.states)
    own.look()
    return own


@pytest.fixture(autouse=True)
def nothing_failed_before(monkeypatch):
    monkeypatch.setattr(metrics, "_failing", {})


def shown(accept=""):
    return samples(parse_text(metrics.page(accept)[1].decode()))


def test_it_speaks_the_plain_format_to_everybody():
    for accept in ("", "*/*", "text/html", "nonsense;;=,"):
        content_type, body = metrics.page(accept)
        assert content_type.startswith("text/plain")
        assert ("sutazai_workers",) in samples(parse_text(body.decode()))


def test_it_speaks_openmetrics_to_who_asks_for_it():
    content_type, body = metrics.page(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert ("sutazai_workers",) in samples(parse_openmetrics(body.decode()))


def test_it_tells_of_workers_sign_ins_and_what_health_found(health_found):
    heartbeat.beat()
    SessionStore().create()
    values = samples(parse_text(metrics.page("")[1].decode()))
    assert values["sutazai_workers",] == 1
    assert values["sutazai_sign_in_sessions",] == 1
    assert values["api_dependency_status", ("dependency", "database")] == 1
    assert values["api_dependency_status", ("dependency", "models")] == 0.5  # no model server: degraded


def test_while_the_database_is_away_it_says_so(health_found, database_is_away, caplog):
    health_found.look()
    for _ in range(2):
        values = shown()
    assert values["api_dependency_status", ("dependency", "database")] == 0
    assert values["api_dependency_status", ("dependency", "disk")] == 1
    assert ("sutazai_disk_free_bytes", ("folder", "data")) in values
    assert ("sutazai_workers",) not in values
    name = "core.ops.metrics.platform_metrics"
    assert values[ERRORS, ("reader", name)] >= 1
    told = [record.message for record in caplog.records if name in record.message]
    assert told == [f"The metrics do without {name}: the connection is refused"]


def test_of_a_reader_that_fails_stays_what_it_told_before(monkeypatch, caplog):
    is_broken = True

    def kettle_metrics():
        yield GaugeMetricFamily("kettles", "Kettles.", value=2)
        degrees = GaugeMetricFamily("kettle_degrees", "How hot.", labels=["kettle"])
        degrees.add_metric(["a"], 20)
        if is_broken:
            raise ValueError("no thermometer")
        yield degrees

    kettle_metrics.__qualname__ = "kettle_metrics"
    monkeypatch.setattr(metrics, "_readers", [kettle_metrics, *metrics._readers])
    before = shown()
    assert before["kettles",] == 2
    assert ("sutazai_workers",) in before
    assert ("kettle_degrees", ("kettle", "a")) not in before
    assert shown()[ERRORS, ("reader", KETTLE_READER)] >= 1
    assert caplog.text.count(f"do without {KETTLE_READER}") == 1
    is_broken = False
    assert shown()["kettle_degrees", ("kettle", "a")] == 20
    is_broken = True
    shown()
    assert caplog.text.count(f"do without {KETTLE_READER}") == 2  # it began anew


def test_a_deriver_that_fails_keeps_nobody_from_telling(monkeypatch):
    def per_kettle(totals):
        raise ZeroDivisionError

    monkeypatch.setattr(metrics, "_derivers", [per_kettle, *metrics._derivers])
    assert ("cache_hit_ratio",) in shown()


def test_a_reading_says_whether_it_is_whole(database_is_away, monkeypatch):
    assert not metrics.reading().is_whole
    monkeypatch.setattr(metrics, "_readers", [metrics.dependency_metrics])
    assert metrics.reading().is_whole


def test_requests_and_queries_are_counted_by_django_prometheus(client):
    client.get("/login")
    names = {key[0] for key in samples(parse_text(metrics.page("")[1].decode()))}
    assert "django_http_requests_before_middlewares_total" in names
    assert "django_db_execute_total" in names


@pytest.mark.django_db(transaction=True)
def test_the_own_port_serves_them_without_credentials_or_a_database(settings, wait_until, health_found, request):
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
    request.getfixturevalue("database_is_away")
    health_found.look()
    answer = answers()
    assert answer.status_code == 200
    assert samples(parse_text(answer.text))["api_dependency_status", ("dependency", "database")] == 0


def test_without_a_port_nothing_listens(settings):
    settings.METRICS_PORT = None
    before = threading.active_count()
    metrics.serve_on_own_port()
    assert threading.active_count() == before
