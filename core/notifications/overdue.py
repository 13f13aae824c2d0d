"""Sends from this process what no worker sent in time: news of the workers and the broker cannot wait for these.

What is due for so long was lost on its way, or no worker lives. Whoever sends takes it by the same claim as a worker,
so that of all who try one does. Emails and webhooks have a thread each, so that neither a mail server nor a receiver
that takes its time keeps anybody from anything else.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.db import connection
from django.utils import timezone

from core.models import WebhookDelivery
from core.models.webhook import WebhookDeliveryQuerySet
from core.notifications import emails
from core.notifications.events import Event
from core.notifications.webhooks import sending
from core.ops.threads import start_endless

OVERDUE = timedelta(seconds=30)  # a worker that lives takes a moment
MOST = 20  # emails in one go: a mail server that does not answer costs EMAIL_TIMEOUT for each


class Sender:
    """Sends the overdue emails and deliveries of an event whenever it is woken."""

    def __init__(self, event: Event) -> None:
        self._threads = [
            _Thread(f"overdue-{event.name}-emails", partial(send_emails, event)),
            _Thread(f"overdue-{event.name}-webhooks", partial(send_deliveries, event)),
        ]

    def wake(self) -> None:
        """Have everything sent that is overdue now; waits for nothing. Only one thread may call it."""
        for thread in self._threads:
            thread.wake()


class _Thread:
    """Does a piece of work whenever it is woken; once more, if that was in the middle of it."""

    def __init__(self, name: str, work: Callable[[], int]) -> None:
        self._name, self._work = name, work
        self._woken = threading.Event()
        self._is_started = False

    def wake(self) -> None:
        self._woken.set()
        if not self._is_started:
            start_endless(self._name, self._wait_and_work)
            self._is_started = True

    def _wait_and_work(self) -> None:
        self._woken.wait()
        self._woken.clear()
        try:
            self._work()
        finally:
            if connection.vendor != "sqlite":
                connection.close()  # back to the pool until the next time


def send_emails(event: Event) -> int:
    """Send the overdue emails of an event, the oldest first, and not all where there are many; returns how many."""
    overdue = emails.due(timezone.now() - OVERDUE).filter(event=event.name).order_by("email_due_at")
    return sum(emails.send(key) for key in list(overdue.values_list("pk", flat=True)[:MOST]))


def send_deliveries(event: Event) -> int:
    """Send webhooks the overdue deliveries of an event; returns how many were taken."""
    due = partial(_overdue_deliveries, event)
    return sum(sending.send_due(webhook_id, due) for webhook_id in sending.waiting_webhooks(due))


def _overdue_deliveries(event: Event) -> WebhookDeliveryQuerySet:
    return WebhookDelivery.objects.due(timezone.now() - OVERDUE).filter(event=event.name)
