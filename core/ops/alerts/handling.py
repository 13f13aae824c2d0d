"""What operators do about alerts. Each is written into the audit log with it."""

from datetime import timedelta

from django.db import transaction

from core import audit
from core.exceptions import Refused
from core.models import Alert, AlertSilence, User
from core.ops import clock

MAX_SILENCE_MINUTES = 30 * 24 * 60


class NotFiring(Refused):
    """Somebody, or time, was faster. Look at the list again."""

    status = 409
    code = "alert-not-firing"
    title = "The alert does not fire any more"


def acknowledge(alert: Alert, *, by: User, note: str = "") -> None:
    """Note that somebody looks after an alert; the first one stays. Raises NotFiring."""
    with transaction.atomic():
        before = audit.snapshot(alert)
        free = Alert.objects.firing().filter(pk=alert.pk, acknowledged_at=None)
        taken = free.update(acknowledged_at=clock.now(), acknowledged_by=by.get_username(), note=note[:300])
        alert.refresh_from_db()
        if taken:
            audit.record("alert.acknowledged", target=alert, before=before, after=alert, actor=by)
        elif not alert.is_firing:
            raise NotFiring


def silence(name: str, about: str = "", *, minutes: int, reason: str, by: User) -> AlertSilence:
    """Have nobody told of an alert for some minutes; what was said of it before holds no longer.

    about: of those alerts of the rule alone; empty: of all.
    """
    now = clock.now()
    said = {
        "until": now + timedelta(minutes=minutes),
        "reason": reason[:300],
        "by": by.get_username()[:150],
        "since": now,
    }
    with transaction.atomic():
        before = AlertSilence.objects.select_for_update(no_key=True).filter(name=name, about=about).first()
        row, _ = AlertSilence.objects.update_or_create(name=name, about=about, defaults=said)
        audit.record("alert-silence.begun", target=row, before=before, after=row, actor=by)
    return row


def end_silence(row: AlertSilence, *, by: User) -> None:
    """Have people told again, also of what fires already and they were not told of."""
    with transaction.atomic():
        audit.record("alert-silence.ended", target=row, before=row, actor=by)
        AlertSilence.objects.filter(pk=row.pk).delete()
