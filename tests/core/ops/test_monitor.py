import json
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from core.ops import monitor
from core.ops.endpoints import Endpoint
from core.ops.monitor import Monitor
from core.ops.probes import State
from tests.servers import WebServer
from tests.services.server import free_port

READY = {
    "services": {
        "database": {"status": "up", "detail": "", "since": "2026-01-01T00:00:00+00:00"},
        "workers": {"status": "up", "detail": "", "since": "2026-01-01T00:00:00+00:00"},
    }
}


class _Server(WebServer):
    """Answers each path as a test says, with 200 where it says nothing; remembers the headers it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, int] = {}
        self.stalls: set[str] = set()
        self.ready = json.dumps(READY).encode()
        self.heard: dict[str, dict[str, str]] = {}

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.heard[request.path] = dict(request.headers.items())
        if request.path in self.stalls:
            self.is_over.wait()
        answer = self.ready if request.path == "/health/ready" else b"{}"
        request.send_response(self.statuses.get(request.path, 200))
        request.send_header("Location", "https://elsewhere.example")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        with suppress(ConnectionError):  # nobody waits for it any more
            request.wfile.write(answer)


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        yield server


TABLE = [Endpoint("/health"), Endpoint("/health/ready"), Endpoint("/tasks", takes_key=True)]


def looked_at(server, *, key="stz_key", table=TABLE):
    asked = Monitor(table, url=server.address, key=key)
    asked.look()
    return asked


def answer(asked, path):
    return next(watched.answer for watched in asked.watched if watched.endpoint.path == path)


def test_a_server_that_answers_everything_is_healthy(server):
    asked = looked_at(server)
    assert asked.is_healthy
    assert {watched.answer.state for watched in asked.watched} == {State.UP}
    assert [(part.name, part.state) for part in asked.parts] == [("database", "up"), ("workers", "up")]


def test_the_key_goes_only_where_one_is_taken(server):
    looked_at(server)
    assert server.heard["/tasks"]["Authorization"] == "Bearer stz_key"
    assert "Authorization" not in server.heard["/health"]


def test_without_a_key_what_takes_one_is_not_asked(server):
    asked = looked_at(server, key="")
    assert "/tasks" not in server.heard
    assert answer(asked, "/tasks").state == State.UNKNOWN
    assert asked.is_healthy
    assert asked.watched[2].as_dict()["trend_seconds"] == []


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(500, "failed"), (503, "not ready"), (401, "not valid"), (403, "may not"), (429, "Too many"), (302, "elsewhere")],
)
def test_an_answer_that_is_no_success_is_unhealthy(server, status, complaint):
    server.statuses["/tasks"] = status
    asked = looked_at(server)
    assert not asked.is_healthy
    assert answer(asked, "/tasks").state == State.DOWN
    assert complaint in answer(asked, "/tasks").detail
    assert answer(asked, "/health").state == State.UP


def test_one_that_stalls_is_given_up_and_keeps_no_other_waiting(server, monkeypatch):
    monkeypatch.setattr(monitor, "LIMIT_SECONDS", 0.3)
    server.stalls.add("/health")
    asked = looked_at(server)
    assert answer(asked, "/health").state == State.DOWN
    assert answer(asked, "/tasks").state == State.UP
    assert not asked.is_healthy


def test_a_slow_answer_is_told_and_is_not_unhealthy(server, monkeypatch):
    monkeypatch.setattr(monitor, "SLOW_SECONDS", 0.0)
    asked = looked_at(server)
    assert answer(asked, "/health").state == State.DEGRADED
    assert asked.is_healthy


def test_a_server_that_is_not_there_is_unhealthy():
    asked = Monitor(TABLE, url=f"http://127.0.0.1:{free_port()}", key="stz_key")
    asked.look()
    assert {watched.answer.state for watched in asked.watched} == {State.DOWN}
    assert not asked.is_healthy


def test_a_part_that_is_down_is_unhealthy(server):
    down = {"workers": {"status": "down", "detail": "No worker lives.", "since": "2026-01-01T00:00:00+00:00"}}
    server.ready = json.dumps({"services": down}).encode()
    asked = looked_at(server)
    assert not asked.is_healthy
    assert asked.as_dict()["parts"] == [{"name": "workers", **down["workers"]}]


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"services": 1}', b'{"services": {"x": {}}}', b'{"services": [1]}', b"\xff"]
)
def test_a_stranger_s_answer_says_nothing_of_parts(server, said):
    server.ready = said
    asked = looked_at(server)
    assert asked.parts == []
    assert asked.is_healthy


def test_the_times_of_the_last_rounds_are_kept(server, monkeypatch):
    asked = Monitor(TABLE, url=server.address, key="stz_key")
    asked.look()
    server.statuses["/health"] = 500
    asked.look()
    watched = asked.watched[0]
    assert [seconds is None for seconds in watched.history] == [False, True]
    assert watched.answered_percent == 50
    assert watched.median_seconds == watched.worst_seconds == watched.history[0]
    for _ in range(monitor.KEPT_ROUNDS):
        watched.take(watched.answer)
    assert len(watched.history) == monitor.KEPT_ROUNDS
    assert watched.median_seconds is None


def test_in_production_it_comes_as_the_proxy_would(settings):
    settings.IS_PRODUCTION = True
    settings.ALLOWED_HOSTS = [".gpu.example"]
    assert Monitor(TABLE)._headers == {"X-Forwarded-Proto": "https", "Host": "gpu.example"}
    assert Monitor(TABLE, url="https://gpu.example")._headers == {}
