"""Rows whose time is over."""

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from core.access import known_devices
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
    TokenFamily,
    TokenUse,
    Webhook,
    WebhookDelivery,
)
from core.models.base import uuid7_from
from core.notifications.webhooks import calls
from core.ops import deletions, maintenance
from core.ops.jobs import verdicts

# Budgets look back to the first of the month; and deadlines are a day at most, so that nothing is settled later.
TOKEN_USE_DAYS = 35


def _old_sessions() -> QuerySet[Session]:
    """Those that are over, or began more than SIGN_IN_SESSION_MAX_AGE_DAYS ago.

    Django does not store when a session began; its device does. One without a device ends SESSION_COOKIE_AGE after it
    was last written, so its age counts from then: to confirm one's password writes it again.
    """
    before = _days_ago(settings.SIGN_IN_SESSION_MAX_AGE_DAYS)
    written_before = before + timedelta(seconds=settings.SESSION_COOKIE_AGE)
    began_before = Device.objects.filter(signed_in_at__lt=before).values("session_key")
    return Session.objects.filter(
        Q(expire_date__lt=max(timezone.now(), written_before)) | Q(session_key__in=began_before)
    )


def _devices_without_session() -> QuerySet[Device]:
    """Those whose session is gone, or goes."""
    goes = _old_sessions().filter(session_key=OuterRef("session_key"))
    stays = Session.objects.filter(session_key=OuterRef("session_key"))
    return Device.objects.filter(Exists(goes) | ~Exists(stays))


def _repeatable_no_more() -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(created_at__lt=_hours_ago(settings.IDEMPOTENCY_HOURS))


def _old_runs() -> QuerySet[MaintenanceRun]:
    """Those older than MAINTENANCE_HISTORY_DAYS; a check's last verdict stays, for damage does not mend with time."""
    old = MaintenanceRun.objects.filter(started_at__lt=_days_ago(settings.MAINTENANCE_HISTORY_DAYS))
    return old.exclude(pk__in=verdicts.kept())


def _not_slow_any_more() -> QuerySet[SlowQuery]:
    return SlowQuery.objects.filter(last_seen_at__lt=_days_ago(settings.MAINTENANCE_HISTORY_DAYS))


def _ended_families() -> QuerySet[TokenFamily]:
    return TokenFamily.objects.filter(expires_at__lt=timezone.now())


def _read_notifications() -> QuerySet[Notification]:
    """Those older than NOTIFICATION_DAYS; what was sent by email alone counts as read."""
    old = Notification.objects.filter(created_at__lt=_days_ago(settings.NOTIFICATION_DAYS))
    return old.filter(Q(in_app=False) | Q(read_at__isnull=False))


def _resolved_alerts() -> QuerySet[Alert]:
    return Alert.objects.filter(resolved_at__lt=_days_ago(settings.ALERT_DAYS))


def _silences_that_are_over() -> QuerySet[AlertSilence]:
    return AlertSilence.objects.filter(until__lt=timezone.now())


deletions.register(
    "delete_sign_in_sessions",
    "Delete sign-in sessions that expired or are too old",
    {
        "sign-in sessions": _old_sessions,
        "devices": _devices_without_session,
        "remembered devices": known_devices.forgotten,
    },
)


def _lost_processes() -> QuerySet[Process]:
    """Those that were not heard of for a day."""
    heard = Lease.objects.filter(held_until__gte=_days_ago(1)).values("holder")
    return Process.objects.filter(started_at__lt=_days_ago(1)).exclude(identity__in=heard)


deletions.register(
    "delete_lost_processes",
    "Forget processes and duties of which nobody has heard for a day",
    {"processes": _lost_processes, "leases": lambda: Lease.objects.filter(held_until__lt=_days_ago(1))},
)


def _old_health() -> QuerySet[HealthChange]:
    """Changes older than HEALTH_DAYS; what was the last one then stays, for it says how it was."""
    before = _days_ago(settings.HEALTH_DAYS)
    later = HealthChange.objects.filter(part=OuterRef("part"), at__gt=OuterRef("at"), at__lt=before)
    return HealthChange.objects.filter(Exists(later), at__lt=before)


deletions.register(
    "delete_old_health", "Delete the old history of the platform’s health", {"health changes": _old_health}
)
deletions.register(
    "delete_idempotency_records",
    "Delete idempotency records that no request can repeat any more",
    {"idempotency records": _repeatable_no_more},
)
deletions.register(
    "delete_maintenance_runs", "Delete the records of old maintenance runs", {"maintenance runs": _old_runs}
)
deletions.register(
    "delete_slow_queries",
    "Delete slow queries that were not slow any more for long",
    {"slow queries": _not_slow_any_more},
)
deletions.register(
    "delete_token_families", "Delete sign-ins by token that have ended", {"sign-ins by token": _ended_families}
)
deletions.register(
    "delete_read_notifications",
    "Delete notifications that were read and are old",
    {"notifications": _read_notifications},
)
deletions.register(
    "delete_resolved_alerts",
    "Delete alerts that were resolved long ago, and silences that are over",
    {"alerts": _resolved_alerts, "silences": _silences_that_are_over},
)


def _spent_days() -> QuerySet[TokenUse]:
    return TokenUse.objects.filter(day__lt=_days_ago(TOKEN_USE_DAYS).date())


def _spent_limits() -> str:
    counts = [("windows", windows.ended()), ("days of tokens", _spent_days().count())]
    return f"It would delete {deletions.told(counts)}."


@maintenance.job(
    "delete_spent_limits",
    "Delete counts of requests and tokens that hold nobody back any more",
    figures=lambda: {"windows": windows.size(), "token_days": TokenUse.objects.count()},
    preview=_spent_limits,
)
def delete_spent_limits() -> str:
    days, _ = _spent_days().delete()
    return f"Deleted {deletions.told([('windows', windows.sweep()), ('days of tokens', days)])}."


def _old_deliveries() -> QuerySet[WebhookDelivery]:
    """Those older than NOTIFICATION_DAYS, also such as wait for a webhook that is switched off."""
    return WebhookDelivery.objects.filter(pk__lt=uuid7_from(_days_ago(settings.NOTIFICATION_DAYS)))


def _changed_over() -> QuerySet[Webhook]:
    """Those whose previous secret signs no more."""
    return Webhook.objects.filter(replaced_at__lt=timezone.now() - calls.OVERLAP)


def _old_deliveries_and_secrets() -> str:
    counts = [("deliveries", _old_deliveries().count()), ("replaced secrets", _changed_over().count())]
    return f"It would delete {deletions.told(counts)}."


@maintenance.job(
    "delete_webhook_deliveries",
    "Delete what was sent to webhooks long ago, and secrets of theirs that were replaced",
    figures=lambda: {"webhook_deliveries": WebhookDelivery.objects.count()},
    preview=_old_deliveries_and_secrets,
)
def delete_webhook_deliveries() -> str:
    deleted = deletions.in_batches(_old_deliveries())
    forgotten = _changed_over().update(previous_secret="", replaced_at=None)
    return f"Deleted {deletions.told([('deliveries', deleted), ('replaced secrets', forgotten)])}."


def _days_ago(days: int) -> datetime:
    return _hours_ago(24 * days)


def _hours_ago(hours: int) -> datetime:
    return timezone.now() - timedelta(hours=hours)
