"""The page of backups, and what the dashboard says of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.admin import backups
from core.models import AuditEntry, Backup, MaintenanceRun, User
from core.ops import leases, maintenance
from core.ops.jobs.backup import BACK_UP, DRILL
from tests.factories import make_staff

PAGE = "admin:core_backup_changelist"


def make_backup(hours: float = 1, **fields: Any) -> Backup:
    created_at = timezone.now() - timedelta(hours=hours)
    defaults = {"name": f"sutazai-{hours}.tar", "size_bytes": 2_000_000, "rows": 12345, "created_at": created_at}
    return Backup.objects.create(**{**defaults, **fields})


def age_installation(hours: float) -> None:
    User.objects.update(date_joined=timezone.now() - timedelta(hours=hours))


@pytest.fixture
def messages_sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What a broker was given; there is none."""
    sent: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        maintenance.current_app, "send_task", lambda name, args, **_: sent.append((name, args)), raising=False
    )
    return sent


def test_it_lists_them_with_what_one_wants_to_know(console: Client) -> None:
    make_backup(
        1, duration_seconds=1.24, has_secrets=True, verdict="passed", drilled_at=timezone.now(), drill_seconds=3
    )
    make_backup(30, missing_since=timezone.now())
    make_backup(60, verdict="failed", report="WRONG: rows are missing")
    page = console.get(reverse(PAGE)).text
    for text in ("2 MB", "1.24 s", "12,345", "Encrypted", ">Passed<", ">File is gone<", ">Failed<", "tried"):
        assert text in page
    assert str(settings.BACKUP_DIR) in page
    assert "SUTAZAI_BACKUP_PASSPHRASE" in page  # it is not set


def test_a_page_of_many_costs_no_more_queries(console: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        make_backup(number)
    with django_assert_max_num_queries(25):
        console.get(reverse(PAGE))


def test_the_page_of_one_shows_its_report(console: Client) -> None:
    backup = make_backup(
        verdict="failed", report="WRONG: core_user has 1 instead of 7 rows", drilled_at=timezone.now()
    )
    page = console.get(reverse("admin:core_backup_change", args=[backup.pk])).text
    assert "core_user has 1 instead of 7 rows" in page
    assert backup.name in page


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours", "fields", "tone"),
    [
        (1, {"verdict": "passed"}, "good"),
        (1, {}, "warning"),
        (25, {"verdict": "passed"}, "good"),
        (27, {"verdict": "passed"}, "bad"),
        (1, {"verdict": "failed"}, "warning"),  # the installation is young
    ],
)
def test_the_state_is_that_of_what_could_be_restored(hours: float, fields: dict[str, str], tone: str) -> None:
    make_backup(hours, **fields)
    assert backups.state().tone == tone


def test_an_empty_page_says_what_to_do(console: Client) -> None:
    page = console.get(reverse(PAGE)).text
    assert "There is no backup yet" in page
    assert "Back up now" in page


@pytest.mark.parametrize("job", [BACK_UP, DRILL])
def test_a_worker_is_asked(console: Client, messages_sent: list[Any], job: str) -> None:
    answer = console.post(reverse("admin:core_backup_run", args=[job]), follow=True)
    assert answer.redirect_chain == [(reverse(PAGE), 302)]
    assert "A worker does it" in answer.text
    assert messages_sent == [("core.run_maintenance", [job, "console"])]
    entry = AuditEntry.objects.get(action="maintenance-run.asked-for")
    assert (entry.actor_name, entry.object_name) == ("op", job)
    assert not MaintenanceRun.objects.exists()


def test_one_that_runs_is_not_started_again(console: Client, messages_sent: list[Any]) -> None:
    leases.take(f"{maintenance.LEASE_PREFIX}{BACK_UP}", seconds=60)
    MaintenanceRun.objects.create(job=BACK_UP, trigger="console", started_at=timezone.now())
    answer = console.post(reverse("admin:core_backup_run", args=[BACK_UP]), follow=True)
    assert "It is running already" in answer.text
    assert "“Back up now” is running" in answer.text
    assert messages_sent == []


def test_a_run_that_a_restored_database_knows_of_is_in_nobodys_way(console: Client, messages_sent: list[Any]) -> None:
    MaintenanceRun.objects.create(job=BACK_UP, trigger="schedule", started_at=timezone.now())
    answer = console.post(reverse("admin:core_backup_run", args=[BACK_UP]), follow=True)
    assert "is running" not in answer.text
    assert len(messages_sent) == 1


def test_a_broker_that_is_away_is_told(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(maintenance.current_app, "send_task", away, raising=False)
    answer = console.post(reverse("admin:core_backup_run", args=[BACK_UP]), follow=True)
    assert "The broker is away" in answer.text
    assert "manage.py maintain --job back_up" in answer.text


def test_the_last_failure_is_on_the_page(console: Client) -> None:
    run = MaintenanceRun.objects.create(
        job=BACK_UP, trigger="schedule", status="failed", started_at=timezone.now(), error="<b>pg_dump</b> is missing"
    )
    page = console.get(reverse(PAGE)).text
    assert "“Back up now” failed" in page
    assert "&lt;b&gt;pg_dump&lt;/b&gt; is missing" in page
    assert reverse("admin:core_maintenancerun_change", args=[run.pk]) in page


def test_jobs_of_others_are_not_started_here(console: Client, messages_sent: list[Any]) -> None:
    assert console.post(reverse("admin:core_backup_run", args=["vacuum_database"])).status_code == 404
    assert console.get(reverse("admin:core_backup_run", args=[BACK_UP])).status_code == 405
    assert messages_sent == []


def test_it_needs_permissions(clerk: Client, messages_sent: list[Any]) -> None:
    assert clerk.get(reverse(PAGE)).status_code == 403
    assert Client().get(reverse(PAGE)).status_code == 302
    viewer = Client()
    viewer.force_login(make_staff("view_backup", username="viewer"))
    page = viewer.get(reverse(PAGE))
    assert page.status_code == 200
    assert "Back up now</button>" not in page.text
    for browser in (clerk, viewer):
        assert browser.post(reverse("admin:core_backup_run", args=[BACK_UP])).status_code == 403
    assert messages_sent == []


@pytest.mark.parametrize(
    "job",
    [
        BACK_UP,
        DRILL,
        "check_database",
        "vacuum_database",
        "free_database_pages",
        "verify_audit_log",
        "remove_old_audit_entries",
        "send_due_emails",
        "send_due_webhooks",
        "refresh_models",
        "join_old_events",
        "delete_old_tasks",
    ],
)
def test_what_may_take_minutes_is_left_to_a_worker(console: Client, messages_sent: list[Any], job: str) -> None:
    console.post(reverse("admin:core_maintenancerun_run", args=[job]))
    assert messages_sent == [("core.run_maintenance", [job, "console"])]
    assert not MaintenanceRun.objects.exists()


@pytest.mark.django_db
def test_the_page_calls_old_what_the_alert_calls_old(settings: Any) -> None:
    make_backup(49, verdict="passed")
    settings.BACKUP_MAX_AGE_SECONDS = 50 * 3600
    assert backups.state().tone == "good"


@pytest.mark.django_db
def test_the_dashboard_tells_of_old_backups_and_of_bad_ones(operator: User) -> None:
    assert backups.problems().problems == []  # nobody has been here for two days
    age_installation(49)
    (late,) = backups.problems().problems
    assert (late.level, late.title) == ("bad", "Nothing was backed up for 2 days")
    good = make_backup(3)
    assert backups.problems().problems == []
    make_backup(1, verdict="failed", report="Made.\nWRONG: rows are missing")
    (bad,) = backups.problems().problems
    assert (bad.title, bad.detail) == ("The newest backup cannot be relied on", "WRONG: rows are missing")
    Backup.objects.exclude(pk=good.pk).delete()
    Backup.objects.update(missing_since=timezone.now())
    titles = [problem.title for problem in backups.problems().problems]
    assert titles == ["Nothing was backed up for 2 days", "The newest backup cannot be relied on"]
    cache.clear()
