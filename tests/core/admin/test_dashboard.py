"""The dashboard's frame: panels by permission, in their order."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.admin import dashboard, platform
from core.admin.dashboard import Figure, Panel, Problem
from core.models import MaintenanceRun, User
from core.ops import health, probes
from tests.factories import make_staff

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the panels that the test registers."""
    monkeypatch.setattr(dashboard, "_sources", {})


def figure(label: str) -> Panel:
    return Panel(figures=[Figure(label, "1")])


def test_panels_come_in_the_order_of_their_positions(panels: None, operator: User) -> None:
    dashboard.register("late", lambda: figure("Late"), permission="core.view_user", position=2)
    dashboard.register("early", lambda: figure("Early"), permission="core.view_user", position=1)

    assert [item["label"] for item in dashboard.snapshot(operator)["figures"]] == ["Early", "Late"]


def test_each_panel_asks_for_its_permission(panels: None, db: None) -> None:
    dashboard.register("people", lambda: figure("People"), permission="core.view_user", position=1)
    dashboard.register("keys", lambda: figure("Keys"), permission="core.view_apikey", position=2)
    clerk = make_staff()
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))

    assert [item["label"] for item in dashboard.snapshot(clerk)["figures"]] == ["People"]


def test_what_is_bad_comes_before_what_is_unusual(panels: None, operator: User) -> None:
    problems = [Problem("warning", "Hm"), Problem("bad", "Oh", since=MOMENT)]
    dashboard.register("some", lambda: Panel(problems=problems), permission="core.view_user", position=1)

    shown = dashboard.snapshot(operator)["problems"]

    assert [(item["title"], item["since"]) for item in shown] == [("Oh", MOMENT.isoformat()), ("Hm", None)]


def test_a_snapshot_is_kept_for_a_moment(panels: None, operator: User) -> None:
    built: list[Panel] = []

    def build() -> Panel:
        built.append(Panel())
        return built[-1]

    dashboard.register("some", build, permission="core.view_user", position=1)
    dashboard.snapshot(operator)
    dashboard.snapshot(operator)

    assert len(built) == 1


def test_the_page_shows_messages_and_escapes_the_snapshot(panels: None, console: Client) -> None:
    problem = Problem("bad", "</script><script>alert(1)</script>")
    dashboard.register("some", lambda: Panel(problems=[problem]), permission="core.view_user", position=1)
    console.post(reverse("admin:core_maintenancerun_run", args=["delete_sign_in_sessions"]))

    text = console.get(reverse("admin:index")).text

    assert "delete_sign_in_sessions:" in text
    assert "<script>alert(1)" not in text


def test_the_answer_is_not_kept_by_browsers(console: Client) -> None:
    assert "no-store" in console.get(reverse("console-dashboard"))["Cache-Control"]


def _answer(finding: probes.Finding) -> Any:
    return lambda: finding


def test_parts_that_are_down_are_problems(operator: User, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = health.Health()
    found = {
        "database": probes.UP,
        "workers": probes.Finding(probes.State.DOWN, "None."),
        "disk": probes.UP,
        "odd": probes.Finding(probes.State.DOWN),
    }
    monkeypatch.setattr(probes, "_probes", {name: _answer(finding) for name, finding in found.items()})
    monkeypatch.setattr(health, "_health", looks)
    looks.look()

    panel = platform.platform()

    # "odd" is somebody else's: who registers a probe of their own tells of it in a panel of their own.
    assert [(item.level, item.title) for item in panel.problems] == [("bad", "No worker is alive")]
    assert [[cell.text for cell in row[:2]] for row in panel.tables[0].rows] == [
        ["Database", "Up"],
        ["Workers", "Down"],
        ["Disk", "Up"],
        ["Odd", "Down"],
    ]


def test_a_job_whose_last_run_failed_is_a_problem_until_it_succeeds(operator: User) -> None:
    def run(status: str, error: str = "") -> MaintenanceRun:
        now = timezone.now()
        return MaintenanceRun.objects.create(
            job="sweep_cache", trigger="schedule", status=status, started_at=now, finished_at=now, error=error
        )

    run("succeeded")
    failed = run("failed", "OSError: disk full")
    (problem,) = platform.platform().problems
    assert (problem.title, problem.detail) == ("The last run of sweep_cache failed", "OSError: disk full")
    assert problem.url == reverse("admin:core_maintenancerun_change", args=[failed.pk])

    run("succeeded")
    assert platform.platform().problems == []
