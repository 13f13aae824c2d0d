"""Sending notifications by email: the row says what is due, a message to a worker only makes it soon.

1. Whoever notified commits, and a thread publishes the rows' keys: nobody waits for the broker, least the engine.
2. A worker claims the row by moving the moment at which its email is due again, then talks to the mail server.
3. What was not sent, because the server refused, the worker died or the message was lost, is due again then; the job
   `send_due_emails` comes by. A claim is a try, so that the tries are bounded whatever happens.
"""

import logging
import smtplib
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import F, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone

from core.models import Notification
from core.notifications import announcer
from core.notifications.events import find

logger = logging.getLogger(__name__)

TASK = "core.send_notification_email"
# After each try but the last; then the email is given up.
RETRY_AFTER = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
MAX_TRIES = len(RETRY_AFTER) + 1


def announce(notification_ids: Sequence[uuid.UUID]) -> None:
    """Have a worker send these emails soon."""
    announcer.announce(TASK, notification_ids)


def due(now: datetime) -> QuerySet[Notification]:
    return Notification.objects.filter(email_due_at__lte=now)


def send(notification_id: uuid.UUID) -> bool:
    """Send the email of a notification if it is due and nobody else does; tells whether it was sent."""
    now = timezone.now()
    notification = due(now).select_related("person").filter(pk=notification_id).first()
    if notification is None or not _claim(notification, now):  # deleted, sent or being sent
        return False
    if not notification.person.is_active or not notification.person.email:
        _settle(notification, sent_at=None)
        return False
    try:
        _message(notification).send()
    except Exception as error:  # such as an address that no header can hold; the others are sent nevertheless
        is_expected = isinstance(error, smtplib.SMTPException | OSError)
        is_last = notification.email_attempts + 1 >= MAX_TRIES
        logger.warning(
            "The email of notification %s was not sent%s: %s",
            notification.pk,
            " and is given up" if is_last else "",
            error,
            exc_info=not is_expected,
        )
        return False
    _settle(notification, sent_at=timezone.now())
    return True


def _claim(notification: Notification, now: datetime) -> bool:
    """Take the next try for this process; False if another one was first."""
    tries = notification.email_attempts
    again_at = now + RETRY_AFTER[tries] if tries < len(RETRY_AFTER) else None
    mine = Notification.objects.filter(pk=notification.pk, email_attempts=tries)
    return bool(mine.update(email_attempts=F("email_attempts") + 1, email_due_at=again_at))


def _settle(notification: Notification, *, sent_at: datetime | None) -> None:
    Notification.objects.filter(pk=notification.pk).update(email_due_at=None, emailed_at=sent_at)


def _message(notification: Notification) -> EmailMessage:
    event = find(notification.event)
    text = render_to_string(
        "notifications/email.txt",
        {
            "notification": notification,
            "link": f"{settings.PUBLIC_URL}{notification.link}",
            "settings_link": f"{settings.PUBLIC_URL}/settings",
            "label": event.label if event else notification.event,
        },
    )
    subject = " ".join(f"SutazAI: {notification.title}".split())  # a header has one line
    return EmailMessage(subject, text, to=[notification.person.email])
