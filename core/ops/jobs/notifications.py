"""Emails that were not sent at once."""

from django.utils import timezone

from core.notifications import emails
from core.ops import maintenance

MOST = 50  # in one run: a mail server that does not answer costs EMAIL_TIMEOUT for each


@maintenance.job(
    "send_due_emails",
    "Send emails of notifications that could not be sent before",
    figures=lambda: {"due_emails": emails.due(timezone.now()).count()},
)
def send_due_emails() -> str:
    waiting = list(emails.due(timezone.now()).order_by("email_due_at").values_list("pk", flat=True)[:MOST])
    sent = sum(emails.send(notification_id) for notification_id in waiting)
    return f"Sent {sent} of {len(waiting)} emails."
