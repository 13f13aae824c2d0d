"""The page of health."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from core.models import HealthChange
from core.ops import health, probes
from core.ops.health import Health
from core.ops.probes import UP, Finding, State
from tests.factories import make_staff

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    """The parts and how they are."""
    parts = {"database": UP, "broker": UP, "workers": UP}
    monkeypatch.setattr(probes, "_probes", {name: lambda name=name: parts[name] for name in parts})
    monkeypatch.setattr(health, "_health", Health())
    return parts


def change(part: str, state: str, ago: timedelta, detail: str = "") -> None:
    HealthChange.objects.create(part=part, state=state, detail=detail, at=datetime.now(UTC) - ago)


def shown(console: Client) -> str:
    return console.get(reverse("console-health")).text


def test_it_shows_each_part_since_when_and_how_it_was(console: Client) -> None:
    health._health.look()
    for part in ("database", "broker", "workers"):
        change(part, "up", 10 * 24 * HOUR)
    change("broker", "down", 12 * HOUR, "It did not answer.")
    change("broker", "up", 6 * HOUR)
    page = shown(console)
    assert "75.00 % up" in page  # of a day
    assert "96.43 % up" in page  # of a week
    assert page.count("100 % up") >= 4
    assert "It did not answer." in page
    assert "6 h 00 min" in page
    assert "Open the page that helps" not in page


def test_it_says_what_to_do_where_a_part_is_away(console: Client, parts: dict[str, Finding]) -> None:
    parts["workers"] = Finding(State.DOWN, "No worker lives.")
    health._health.look()
    page = shown(console)
    assert "No worker lives." in page
    assert "Start the group with" in page
    assert f'href="{reverse("console-workers")}"' in page


def test_what_lasts_is_told_so_far(console: Client) -> None:
    health._health.look()
    change("broker", "degraded", 2 * HOUR)
    assert "2 h 00 min so far" in shown(console)


def test_before_anybody_looked_nothing_is_known(console: Client) -> None:
    page = shown(console)
    assert "The probes hang or have not run yet." in page
    assert page.count(">Unknown<") == 3
    assert "not known" in page
    assert "Nothing was away, as far as somebody looked." in page


def test_a_time_in_which_nobody_looked_counts_for_nothing(console: Client) -> None:
    health._health.look()
    change("broker", "up", 20 * HOUR)
    change("broker", "unknown", 10 * HOUR)
    change("broker", "up", HOUR)
    page = shown(console)
    assert "100 % up" in page
    assert "Nothing was away" in page


def test_details_are_text(console: Client) -> None:
    health._health.look()
    change("broker", "down", HOUR, "<b>bold</b>")
    assert "<b>bold</b>" not in shown(console)


def test_it_needs_a_permission(clerk: Client) -> None:
    assert clerk.get(reverse("console-health")).status_code == 403
    assert Client().get(reverse("console-health")).status_code == 302
    allowed = Client()
    allowed.force_login(make_staff("view_maintenancerun", username="allowed"))
    assert allowed.get(reverse("console-health")).status_code == 200
