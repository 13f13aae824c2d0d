"""Emails, and deliveries to webhooks, that were not sent at once."""

import uuid

from django.utils import timezone

from core.models import CircuitBreaker, WebhookDelivery
from core.net import breakers
from core.notifications import emails
from core.notifications.webhooks import sending
from core.ops import maintenance

MOST = 50  # in one run: a mail server that does not answer costs EMAIL_TIMEOUT for each


def _waiting() -> list[uuid.UUID]:
    """Those that one run sends; the others are the next one's."""
    return list(emails.due(timezone.now()).order_by("email_due_at").values_list("pk", flat=True)[:MOST])


@maintenance.job(
    "send_due_emails",
    "Send emails of notifications that could not be sent before",
    figures=lambda: {"due_emails": emails.due(timezone.now()).count()},
    preview=lambda: f"It would try to send {len(_waiting())} emails.",
    is_long=True,
)
def send_due_emails() -> str:
    waiting = _waiting()
    sent = sum(emails.send(notification_id) for notification_id in waiting)
    return f"Sent {sent} of {len(waiting)} emails."


def _would_send_webhooks() -> str:
    waiting = CircuitBreaker.objects.filter(webhook__in=sending.waiting_webhooks())
    refused = [breakers.refuses(breaker) for breaker in waiting]
    would = f"It would try to send what is due to {refused.count(False)} webhooks."
    return f"{would} {refused.count(True)} wait until their breakers let something through." if any(refused) else would


@maintenance.job(
    "send_due_webhooks",
    "Send what webhooks did not take before",
    figures=lambda: {"due_deliveries": WebhookDelivery.objects.due(timezone.now()).count()},
    preview=_would_send_webhooks,
    is_long=True,
)
def send_due_webhooks() -> str:
    waiting = sending.waiting_webhooks()
    taken = sum(sending.send_due(webhook_id) for webhook_id in waiting)
    return f"{len(waiting)} webhooks had something to be sent, and took {taken} deliveries."
