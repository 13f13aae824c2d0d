"""Rows whose time is over."""

from datetime import datetime, timedelta
from typing import TypeVar

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from core.access import known_devices
from core.access.limits import windows
from core.models import (
    Alert,
    AlertSilence,
    Device,
    IdempotencyRecord,
    MaintenanceRun,
    Notification,
    SlowQuery,
    TokenFamily,
    TokenUse,
)
from core.ops import maintenance

Row = TypeVar("Row", bound=Model)

# Budgets look back to the first of the month; and deadlines are a day at most, so that nothing is settled later.
TOKEN_USE_DAYS = 35
BATCH = 500  # rows for each transaction, so that others get their turn in between


def delete_in_batches(rows: "QuerySet[Row]") -> int:
    """Delete rows that nothing refers to, a batch at a time; returns how many."""
    deleted = 0
    while keys := list(rows.values_list("pk", flat=True)[:BATCH]):
        deleted += rows.model._default_manager.filter(pk__in=keys).delete()[0]
    return deleted


@maintenance.job(
    "delete_sign_in_sessions",
    "Delete sign-in sessions that expired or are too old",
    figures=lambda: {"sign_in_sessions": Session.objects.count()},
)
def delete_sign_in_sessions() -> str:
    """Sign people out who signed in longer ago than SIGN_IN_SESSION_MAX_AGE_DAYS.

    Django does not store when a session began. It ends SESSION_COOKIE_AGE after it was last written, which for ours is
    at the sign-in or a little later, so the age counts from then.
    """
    written_to_end = timedelta(seconds=settings.SESSION_COOKIE_AGE)
    oldest_written = timezone.now() - timedelta(days=settings.SIGN_IN_SESSION_MAX_AGE_DAYS)
    ends_before = max(timezone.now(), oldest_written + written_to_end)
    deleted = delete_in_batches(Session.objects.filter(expire_date__lt=ends_before))
    delete_in_batches(Device.objects.exclude(session_key__in=Session.objects.values("session_key")))
    delete_in_batches(known_devices.forgotten())
    return f"Deleted {deleted} sign-in sessions."


@maintenance.job(
    "delete_idempotency_records",
    "Delete idempotency records that no request can repeat any more",
    figures=lambda: {"idempotency_records": IdempotencyRecord.objects.count()},
)
def delete_idempotency_records() -> str:
    old = IdempotencyRecord.objects.filter(created_at__lt=_hours_ago(settings.IDEMPOTENCY_HOURS))
    return f"Deleted {delete_in_batches(old)} idempotency records."


@maintenance.job(
    "delete_maintenance_runs",
    "Delete the records of old maintenance runs",
    figures=lambda: {"maintenance_runs": MaintenanceRun.objects.count()},
)
def delete_maintenance_runs() -> str:
    old = MaintenanceRun.objects.filter(started_at__lt=_hours_ago(24 * settings.MAINTENANCE_HISTORY_DAYS))
    return f"Deleted {delete_in_batches(old)} records."


@maintenance.job(
    "delete_slow_queries",
    "Delete slow queries that were not slow any more for long",
    figures=lambda: {"slow_queries": SlowQuery.objects.count()},
)
def delete_slow_queries() -> str:
    """Delete those that were not seen for MAINTENANCE_HISTORY_DAYS."""
    old = SlowQuery.objects.filter(last_seen_at__lt=_hours_ago(24 * settings.MAINTENANCE_HISTORY_DAYS))
    return f"Deleted {delete_in_batches(old)} slow queries."


@maintenance.job(
    "delete_spent_limits",
    "Delete counts of requests and tokens that hold nobody back any more",
    figures=lambda: {"windows": windows.size(), "token_days": TokenUse.objects.count()},
)
def delete_spent_limits() -> str:
    oldest = _hours_ago(24 * TOKEN_USE_DAYS).date()
    days, _ = TokenUse.objects.filter(day__lt=oldest).delete()
    return f"Deleted {windows.sweep()} windows and {days} days of tokens."


@maintenance.job(
    "delete_token_families",
    "Delete sign-ins by token that have ended",
    figures=lambda: {"token_families": TokenFamily.objects.count()},
)
def delete_token_families() -> str:
    ended = TokenFamily.objects.filter(expires_at__lt=timezone.now())
    return f"Deleted {delete_in_batches(ended)} sign-ins by token."


@maintenance.job(
    "delete_read_notifications",
    "Delete notifications that were read and are old",
    figures=lambda: {"notifications": Notification.objects.count()},
)
def delete_read_notifications() -> str:
    """Delete those older than NOTIFICATION_DAYS; what was sent by email alone counts as read."""
    old = Notification.objects.filter(created_at__lt=_hours_ago(24 * settings.NOTIFICATION_DAYS))
    deleted = delete_in_batches(old.filter(Q(in_app=False) | Q(read_at__isnull=False)))
    return f"Deleted {deleted} notifications."


@maintenance.job(
    "delete_resolved_alerts",
    "Delete alerts that were resolved long ago, and silences that are over",
    figures=lambda: {"alerts": Alert.objects.count(), "silences": AlertSilence.objects.count()},
)
def delete_resolved_alerts() -> str:
    old = Alert.objects.filter(resolved_at__lt=_hours_ago(24 * settings.ALERT_DAYS))
    silences = AlertSilence.objects.filter(until__lt=timezone.now())
    return f"Deleted {delete_in_batches(old)} alerts and {delete_in_batches(silences)} silences."


def _hours_ago(hours: int) -> datetime:
    return timezone.now() - timedelta(hours=hours)
