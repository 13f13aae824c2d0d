"""The job that sees that the alerts are looked at."""

import threading
from datetime import timedelta

import pytest

from core.models import Lease, MaintenanceRun
from core.ops import clock, health, maintenance
from core.ops.alerts import watch
from tests.factories import make_alert

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def run():
    return maintenance.run("evaluate_alerts", trigger=MaintenanceRun.Trigger.SCHEDULE)


def watched_elsewhere(*, held_seconds=30, looked_seconds_ago=15):
    now = clock.now()
    Lease.objects.create(
        name=watch.DUTY,
        holder="elsewhere:0:0/7/1",
        held_until=now + timedelta(seconds=held_seconds),
        done_at=now - timedelta(seconds=looked_seconds_ago),
    )


@pytest.fixture
def watches(monkeypatch):
    """This process is one of those that watch; its thread itself would outlive the test."""
    monkeypatch.setattr(watch, "start_endless", lambda *_: threading.current_thread())
    monkeypatch.setattr(health, "start", lambda: None)
    watch.start.cache_clear()
    watch.start()
    yield
    watch.start.cache_clear()


def test_a_process_that_watches_looks_at_once(watches):
    make_alert()
    row = run()
    assert row.status == "succeeded", row.error
    assert row.summary.endswith("rules; 1 alerts fire.")
    assert row.before["firing"] == 1
    assert watch.watcher()


def test_where_another_process_watches_that_is_enough(watches):
    watched_elsewhere()
    assert "The process 7 on elsewhere watches" in run().summary


def test_a_process_without_figures_looks_at_nothing():
    watched_elsewhere()
    assert "The process 7 on elsewhere watches" in run().summary


def test_it_fails_where_nobody_watches():
    watched_elsewhere(held_seconds=-30)
    row = run()
    assert row.status == "failed"
    assert row.error.startswith("NobodyWatchesError")


def test_it_fails_where_somebody_watches_whose_looks_fail():
    watched_elsewhere(looked_seconds_ago=90)
    row = run()
    assert row.status == "failed"
    assert row.error.startswith("LooksFailError: The process 7 on elsewhere watches")
    assert "Its log tells why" in row.error


def test_a_dry_run_tells_what_fires():
    make_alert(title="The node a is lost")
    assert maintenance.preview("evaluate_alerts").endswith("Now fires: The node a is lost.")
