"""Figures that nobody but the alerts keeps."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.ops import metrics
from core.ops.alerts import figures

pytestmark = pytest.mark.django_db


def told(prefix: str) -> dict[tuple[Any, ...], float]:
    """What /metrics tells by names that begin so: by name and labels."""
    families = text_string_to_metric_families(metrics.page("")[1].decode())
    samples = (sample for family in families for sample in family.samples if sample.name.startswith(prefix))
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def nobody_asked() -> None:
    figures._noted.clear()


@pytest.fixture
def healthy_server(settings: Any) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        settings.HOST, settings.PORT = server.server_address
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("nobody_asked")
def test_a_host_where_nobody_asked_for_health_tells_nothing_of_it() -> None:
    assert told("sutazai_health_") == {}


@pytest.mark.usefixtures("nobody_asked", "healthy_server")
def test_the_host_where_somebody_asked_tells_what_was_answered() -> None:
    figures.ask_web()
    assert told("sutazai_health_up") == {("sutazai_health_up",): 1}
    assert 0 < told("sutazai_health_seconds")["sutazai_health_seconds",] < figures.ASK_SECONDS


@pytest.mark.usefixtures("nobody_asked")
def test_it_tells_that_nobody_answered(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings.HOST, settings.PORT = taken.getsockname()
    figures.ask_web()
    assert told("sutazai_health_up") == {("sutazai_health_up",): 0}


@pytest.mark.usefixtures("nobody_asked", "healthy_server")
def test_what_was_found_long_ago_is_not_told_any_more() -> None:
    figures.ask_web()
    figures._noted.labels("at").set(time.monotonic() - figures.FRESH_SECONDS)
    assert told("sutazai_health_up") == told("sutazai_health_seconds") == {}


def test_the_age_that_a_backup_may_have_is_a_setting(settings: Any) -> None:
    settings.BACKUP_MAX_AGE_SECONDS = 170 * 3600
    assert told("sutazai_backup_max")["sutazai_backup_max_age_seconds",] == 170 * 3600
