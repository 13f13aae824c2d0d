from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from core.access.limits import windows
from core.models import (
    Alert,
    AlertSilence,
    Device,
    HealthChange,
    IdempotencyRecord,
    Lease,
    MaintenanceRun,
    Notification,
    Process,
    SlowQuery,
    TokenUse,
    WebhookDelivery,
    uuid7,
)
from core.models.base import uuid7_from
from core.ops import deletions, maintenance
from core.ops.jobs import verdicts
from core.ops.jobs.audit import VERIFY
from core.ops.jobs.database import CHECK
from tests.factories import (
    make_alert,
    make_delivery,
    make_notification,
    make_process,
    make_slow_query,
    make_user,
    make_webhook,
)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def run(job):
    """Run a job, which does what it said that it would."""
    would = maintenance.preview(job)
    row = maintenance.run(job, trigger=MaintenanceRun.Trigger.COMMAND)
    assert row.status == "succeeded", row.error
    assert would.replace("It would delete", "Deleted").replace("and forget", "and forgot") == row.summary
    return row


def session(**ends_in):
    """A session that ends so long from now; it was written SESSION_COOKIE_AGE before."""
    store = SessionStore()
    store["user"] = "somebody"
    store.create()
    Session.objects.filter(pk=store.session_key).update(expire_date=timezone.now() + timedelta(**ends_in))
    return store.session_key


def remaining():
    return set(Session.objects.values_list("pk", flat=True))


def test_sign_in_sessions_are_deleted_when_they_expired():
    session(seconds=-1)
    young = session(seconds=60)
    row = run("delete_sign_in_sessions")
    assert remaining() == {young}
    assert (row.before["sign_in_sessions"], row.after["sign_in_sessions"]) == (2, 1)
    assert row.summary == "Deleted 1 sign-in sessions, 0 devices and 0 remembered devices."


def test_sign_in_sessions_older_than_allowed_are_deleted_though_they_have_not_expired(settings):
    settings.SESSION_COOKIE_AGE = 7 * 86_400
    settings.SIGN_IN_SESSION_MAX_AGE_DAYS = 2
    session(days=5, seconds=-1)  # written two days and a second ago
    young = session(days=5, minutes=5)
    run("delete_sign_in_sessions")
    assert remaining() == {young}


def device(session_key, *, signed_in_at):
    return Device.objects.create(
        user=make_user(), session_key=session_key, signed_in_at=signed_in_at, last_seen_at=timezone.now()
    )


def test_a_session_is_as_old_as_its_sign_in_though_it_was_written_again_since(settings):
    settings.SIGN_IN_SESSION_MAX_AGE_DAYS = 2
    old, young = session(days=7), session(days=7)  # both were written just now
    two_days_ago = timezone.now() - timedelta(days=2)
    device(old, signed_in_at=two_days_ago - timedelta(seconds=1))
    device(young, signed_in_at=two_days_ago + timedelta(minutes=5))
    assert run("delete_sign_in_sessions").summary == "Deleted 1 sign-in sessions, 1 devices and 0 remembered devices."
    assert remaining() == {young}
    assert Device.objects.get().session_key == young


def test_devices_go_with_their_sessions():
    gone, young = session(seconds=-1), session(seconds=60)
    for key in (gone, young):
        device(key, signed_in_at=timezone.now())
    assert run("delete_sign_in_sessions").summary == "Deleted 1 sign-in sessions, 1 devices and 0 remembered devices."
    assert Device.objects.get().session_key == young


def test_a_maximum_age_beyond_the_cookies_keeps_no_expired_session(settings):
    settings.SIGN_IN_SESSION_MAX_AGE_DAYS = 100
    session(seconds=-1)
    session(seconds=60)
    run("delete_sign_in_sessions")
    assert len(remaining()) == 1


def idempotency_record(key, **age):
    now = timezone.now()
    return IdempotencyRecord.objects.create(
        principal="1",
        route="tasks.create",
        key=key,
        body_hash="",
        object_id=uuid7(),
        created_at=now - timedelta(**age),
    )


def test_idempotency_records_are_kept_for_their_hours(settings):
    settings.IDEMPOTENCY_HOURS = 24
    idempotency_record("old", hours=24, seconds=1)
    idempotency_record("young", hours=23, minutes=59)
    row = run("delete_idempotency_records")
    assert [record.key for record in IdempotencyRecord.objects.all()] == ["young"]
    assert row.after == {"idempotency_records": 1}


def test_more_rows_than_a_batch_are_all_deleted(monkeypatch):
    monkeypatch.setattr(deletions, "BATCH", 3)
    for number in range(8):
        idempotency_record(str(number), days=9)
    assert run("delete_idempotency_records").summary == "Deleted 8 idempotency records."
    assert not IdempotencyRecord.objects.exists()


def test_records_of_runs_are_kept_for_their_days(settings):
    settings.MAINTENANCE_HISTORY_DAYS = 30
    for days in (31, 29):
        MaintenanceRun.objects.create(
            job="tidy", trigger=MaintenanceRun.Trigger.SCHEDULE, started_at=timezone.now() - timedelta(days=days)
        )
    row = run("delete_maintenance_runs")
    assert row.summary == "Deleted 1 maintenance runs."
    assert MaintenanceRun.objects.count() == 2  # the young one and this run's own


@pytest.mark.parametrize("job", [CHECK, VERIFY])
def test_what_a_check_found_is_remembered_until_it_finds_something_else(job, settings):
    settings.MAINTENANCE_HISTORY_DAYS = 30

    def ran(days, status, error=""):
        moment = timezone.now() - timedelta(days=days)
        return MaintenanceRun.objects.create(
            id=uuid7_from(moment), job=job, trigger="schedule", status=status, error=error, started_at=moment
        )

    damage = {CHECK: "DatabaseDamagedError", VERIFY: "LogDamagedError"}[job]
    ran(99, "succeeded")
    found = ran(60, "failed", f"{damage}: It is broken.")
    for days in range(31, 59):
        ran(days, "failed", "OperationalError: the statement took too long")
    run("delete_maintenance_runs")
    assert MaintenanceRun.objects.get(job=job) == found
    assert verdicts.last(job) is False
    intact = ran(0, "succeeded")
    run("delete_maintenance_runs")
    assert MaintenanceRun.objects.get(job=job) == intact
    assert verdicts.last(job) is True


def test_queries_that_are_not_slow_any_more_are_forgotten(settings):
    settings.MAINTENANCE_HISTORY_DAYS = 30
    for days in (31, 29):
        make_slow_query(f"SELECT column_{days}", last_seen_at=timezone.now() - timedelta(days=days))
    row = run("delete_slow_queries")
    assert (row.before, row.after) == ({"slow_queries": 2}, {"slow_queries": 1})
    assert SlowQuery.objects.get().text == "SELECT column_29"


def test_counts_that_hold_nobody_back_any_more_are_deleted():
    today = timezone.now().date()
    for days in (0, 34, 36):
        TokenUse.objects.create(subject="user:x", day=today - timedelta(days=days), tokens=1)
    windows.hit(["spent"], 0)
    windows.hit(["open"], 60)
    row = run("delete_spent_limits")
    assert row.summary == "Deleted 1 windows and 1 days of tokens."
    assert (row.before, row.after) == ({"windows": 2, "token_days": 3}, {"windows": 1, "token_days": 2})


def test_notifications_are_kept_for_their_days_once_they_were_read(settings):
    settings.NOTIFICATION_DAYS = 90
    person, now = make_user(), timezone.now()
    for days in (89, 91):
        then = now - timedelta(days=days)
        make_notification(person, f"read, {days}", created_at=then, read_at=now)
        make_notification(person, f"unread, {days}", created_at=then)
        make_notification(person, f"by email alone, {days}", created_at=then, in_app=False)
    row = run("delete_read_notifications")
    assert row.summary == "Deleted 2 notifications."
    assert (row.before, row.after) == ({"notifications": 6}, {"notifications": 4})
    titles = set(Notification.objects.values_list("title", flat=True))
    assert titles == {"read, 89", "unread, 89", "by email alone, 89", "unread, 91"}


def test_the_history_of_health_is_kept_for_its_days_and_tells_how_it_was_then(settings):
    settings.HEALTH_DAYS = 30
    now = timezone.now()
    for part, days in (("broker", 50), ("broker", 40), ("broker", 31), ("broker", 29), ("disk", 99)):
        HealthChange.objects.create(part=part, state="up", at=now - timedelta(days=days))
    assert run("delete_old_health").summary == "Deleted 2 health changes."
    left = HealthChange.objects.order_by("at").values_list("part", "at")
    assert [(part, (now - at).days) for part, at in left] == [("disk", 99), ("broker", 31), ("broker", 29)]


def test_processes_that_were_lost_are_forgotten_after_a_day():
    for hours in (0, 23, 25):
        make_process(heard=timedelta(hours=hours))
    just_started = make_process(started_at=timezone.now())
    Lease.objects.filter(holder=just_started.identity).delete()
    assert run("delete_lost_processes").summary == "Deleted 1 processes and 1 leases."
    assert Process.objects.count() == 3


def test_alerts_are_deleted_long_after_they_were_resolved_and_silences_when_they_are_over(settings):
    settings.ALERT_DAYS = 30
    now = timezone.now()
    make_alert(resolved_at=now - timedelta(days=31))
    recent = make_alert(resolved_at=now - timedelta(days=29))
    firing = make_alert(since=now - timedelta(days=99))
    silence = {"reason": "x", "by": "ada", "since": now - timedelta(hours=2)}
    AlertSilence.objects.create(name="NodeLost", until=now - timedelta(hours=1), **silence)
    AlertSilence.objects.create(name="NodeLost", about="node=a", until=now + timedelta(hours=1), **silence)
    assert run("delete_resolved_alerts").summary == "Deleted 1 alerts and 1 silences."
    assert set(Alert.objects.all()) == {recent, firing}
    assert AlertSilence.objects.get().about == "node=a"


def test_what_was_sent_to_webhooks_is_deleted_after_its_days_and_a_replaced_secret_when_it_signs_no_more(settings):
    settings.NOTIFICATION_DAYS = 90
    now = timezone.now()
    overlaps, is_over = (
        make_webhook(previous_secret="whsec_old", replaced_at=now - timedelta(hours=hours)) for hours in (23, 25)
    )
    old, kept = (make_delivery(overlaps, id=uuid7_from(now - timedelta(days=days))) for days in (91, 89))
    row = run("delete_webhook_deliveries")
    assert row.summary == "Deleted 1 deliveries and 1 replaced secrets."
    assert (row.before, row.after) == ({"webhook_deliveries": 2}, {"webhook_deliveries": 1})
    assert (WebhookDelivery.objects.get(), old == kept) == (kept, False)
    for webhook in (overlaps, is_over):
        webhook.refresh_from_db()
    assert (overlaps.previous_secret, is_over.previous_secret, is_over.replaced_at) == ("whsec_old", "", None)
