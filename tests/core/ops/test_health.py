import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.ops import health, probes
from core.ops.health import Health
from core.ops.probes import UP, Finding, State

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def parts(monkeypatch):
    """The parts that are looked at, by name; a test says how they are."""
    parts = {"database": UP, "broker": UP}

    def probe(name):
        def look():
            if isinstance(parts[name], Exception):
                raise parts[name]
            return parts[name]

        return look

    monkeypatch.setattr(probes, "_probes", {name: probe(name) for name in parts})
    monkeypatch.setattr(health, "_health", Health())
    return parts


def look():
    health._health.look()


def ready():
    status, body = health.readiness_body()
    return status, json.loads(body)


def test_before_the_first_look_nothing_is_known_and_the_process_is_not_ready(parts):
    assert health.liveness()["services"] == {"database": "unknown", "broker": "unknown"}
    status, answer = ready()
    assert (status, answer["status"]) == (503, "unavailable")


@pytest.mark.usefixtures("parts", "db")
def test_all_parts_up_is_ready():
    look()
    status, answer = ready()
    assert (status, answer["status"]) == (200, "ok")
    assert set(answer["services"]) == {"database", "broker"}
    assert set(answer["services"]["broker"]) == {"status", "detail", "since", "checked_at", "latency_seconds"}


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("found", [Finding(State.DOWN), Finding(State.DEGRADED, "slow"), OSError("no route")])
def test_an_optional_part_that_is_not_up_is_reported_and_not_fatal(parts, found):
    parts["broker"] = found
    look()
    status, answer = ready()
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["services"]["broker"]["status"] != "up"


@pytest.mark.usefixtures("db")
def test_without_the_database_the_process_is_not_ready(parts):
    parts["database"] = OSError("connection to 10.1.2.3 refused")
    look()
    status, answer = ready()
    assert (status, answer["status"]) == (503, "unavailable")
    assert answer["services"]["database"]["detail"] == "OSError"  # and no address


@pytest.mark.usefixtures("db")
def test_a_change_is_logged_once_with_what_operators_need(parts, caplog):
    look()
    parts["broker"] = OSError("connection to 10.1.2.3 refused")
    look()
    look()
    assert [record.getMessage() for record in caplog.records] == [
        "broker: up -> down OSError connection to 10.1.2.3 refused"
    ]


@pytest.mark.usefixtures("db")
def test_it_tells_since_when_a_part_is_as_it_is(parts):
    def since():
        return ready()[1]["services"]["broker"]["since"]

    look()
    first = since()
    look()
    assert since() == first
    parts["broker"] = Finding(State.DOWN, "gone")
    look()
    assert since() > first


@pytest.mark.usefixtures("parts", "db")
def test_what_was_found_too_long_ago_is_not_trusted(monkeypatch):
    look()
    monkeypatch.setattr(health, "STALE_SECONDS", -1)
    status, answer = ready()
    assert status == 503
    assert answer["detail"]


@pytest.mark.usefixtures("parts")
def test_liveness_asks_nobody(monkeypatch):
    """No database is allowed in this test, and every probe would fail it."""
    monkeypatch.setattr(probes, "_probes", {"database": lambda: pytest.fail("it was asked")})
    answer = json.loads(health.liveness_body())
    assert set(answer) == {"status", "timestamp", "services"}
    assert answer["status"] == "ok"


def test_one_thread_looks_however_often_it_is_started():
    script = """
import django, threading, time
django.setup()
from core.ops import health, probes
probes._probes = {"broker": lambda: probes.UP}
health.start(), health.start()
while not health._health.services():
    time.sleep(0.01)
print(sum(thread.name == "health-probes" for thread in threading.enumerate()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=None, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1", done.stderr
