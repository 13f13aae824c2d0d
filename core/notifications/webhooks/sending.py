"""Sending deliveries to webhooks: the row says what is due, a message to a worker only makes it soon.

1. Whoever tells commits, and a thread publishes the keys of the webhooks that are told.
2. A worker sends what is due to one webhook, the oldest first. It claims a row by moving the moment at which it is due
   again, then makes the call. What it did not settle, because it died, is due again then.
3. What was not taken is due again later, after a random part of a span that doubles with every try; what was not taken
   within a day has failed. The job `send_due_webhooks` comes by each minute.
4. Three failures in a row open the webhook's breaker. Then nothing is tried, and nothing counts as a try, until one
   probe succeeds: what waits is due at once.

So a receiver may get a delivery twice, with one key, and need not get them in order.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Min, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from core.audit.changes import clean
from core.models import Webhook, WebhookDelivery
from core.models.webhook import WebhookDeliveryQuerySet
from core.net.breakers import Guard
from core.net.errors import BreakerOpen, NetError
from core.notifications import announcer
from core.notifications.events import Event
from core.notifications.webhooks import calls
from core.notifications.webhooks.calls import Answer
from core.retries import full_jitter

logger = logging.getLogger(__name__)

TASK = "core.send_webhook_deliveries"
GIVE_UP_AFTER = timedelta(days=1)
RETRY_BASE_SECONDS = 60
RETRY_CAP_SECONDS = 3600
CLAIM = timedelta(minutes=1)  # longer than any try
MOST = 50  # of one webhook in one go, so that a slow one does not keep a worker; the rest follows within a minute
TEST = "test"  # in the place of an event's name; an operator waits for it, so it is tried once

Status = WebhookDelivery.Status
Due = Callable[[], WebhookDeliveryQuerySet]  # what counts as due, at the moment when it is asked


class _TakenError(Exception):
    """Somebody else sends it, or has."""


@dataclass(frozen=True)
class Message:
    """What webhooks are to be told.

    text: never what a model wrote. link: a path inside the product. data: the same for programs.
    collapse_key: of an event with the same key only the first is told; None: each is.
    """

    title: str
    link: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    collapse_key: str | None = None


def tell(event: Event, messages: Sequence[Message], now: datetime) -> None:
    """Tell the webhooks that want to be told of an event; the rows stand or fall with the caller's transaction.

    One statement where no webhook wants it, else two, however many there are.
    """
    active = Webhook.objects.filter(is_active=True).order_by("pk").values_list("pk", "events")
    wanting = [key for key, events in active if event.name in events]
    if not wanting:
        return
    # The order is that of their locks, so that two processes do not wait for each other.
    in_order = sorted(messages, key=lambda message: message.collapse_key or "")
    rows = [row(key, event.name, message, now) for key in wanting for message in in_order]
    with transaction.atomic(savepoint=False):
        WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True)
        announce(wanting)


def row(webhook_id: uuid.UUID, event: str, message: Message, now: datetime) -> WebhookDelivery:
    """A delivery that is due now, not yet in the database."""
    return WebhookDelivery(
        webhook_id=webhook_id,
        event=event,
        title=clean(message.title, 200),
        text=clean(message.text, 500),
        link=message.link,
        data=dict(message.data),
        collapse_key=message.collapse_key,
        created_at=now,
        next_try_at=now,
        give_up_at=now + GIVE_UP_AFTER,
    )


def announce(webhook_ids: Sequence[uuid.UUID]) -> None:
    """Have a worker send what is due to these webhooks, soon after this transaction."""
    transaction.on_commit(partial(announcer.announce, TASK, webhook_ids), robust=True)


def all_due() -> WebhookDeliveryQuerySet:
    return WebhookDelivery.objects.due(timezone.now())


def waiting_webhooks(due: Due = all_due) -> list[uuid.UUID]:
    """The webhooks to which something is due, the one that waits longest first."""
    first = due().order_by().values("webhook").annotate(first=Min("next_try_at"))
    return list(first.order_by("first").values_list("webhook", flat=True))


def send_due(webhook_id: uuid.UUID, due: Due = all_due) -> int:
    """Send what is due to a webhook, until its breaker opens; returns how many deliveries it took."""
    taken = 0
    for _ in range(MOST):
        found = due().filter(webhook_id=webhook_id).select_related("webhook__breaker")
        delivery = found.order_by("next_try_at", "pk").first()
        if delivery is None:
            break
        try:
            taken += send(delivery)
        except BreakerOpen:
            break
    return taken


def send(delivery: WebhookDelivery) -> bool:
    """Send one delivery, unless somebody else does; tells whether its receiver took it.

    Raises BreakerOpen: nothing was sent, and it is due as before.
    """
    if timezone.now() >= delivery.give_up_at:
        give_up(delivery, delivery.last_error or "It was not sent in time.")
        return False
    try:
        with Guard(delivery.webhook.breaker).call() as call:
            _claim(delivery)
            answer = calls.post(delivery)
            if answer.status is not None and answer.status >= 500:
                call.failure = answer.error
    except _TakenError:
        return False
    except BreakerOpen:
        raise
    except NetError as error:
        answer = Answer(None, str(error))
    if answer.error:
        _note_failure(delivery, answer)
    else:
        _note_success(delivery, answer)
    return not answer.error


def give_up(delivery: WebhookDelivery, error: str) -> None:
    """Write down that a delivery has failed, unless it was settled."""
    queued = WebhookDelivery.objects.filter(pk=delivery.pk, status=Status.QUEUED)
    if queued.update(status=Status.FAILED, next_try_at=None, last_error=clean(error, 300)):
        logger.warning("The delivery %s to the webhook %s was given up.", delivery.pk, delivery.webhook.name)


def queue_again(delivery_ids: Sequence[uuid.UUID]) -> int:
    """Have those of these deliveries that were not taken sent once more, with a day's time; returns how many."""
    now = timezone.now()
    rows = WebhookDelivery.objects.filter(pk__in=delivery_ids).exclude(status=Status.DELIVERED)
    return rows.update(status=Status.QUEUED, attempts=0, next_try_at=now, give_up_at=now + GIVE_UP_AFTER)


def _claim(delivery: WebhookDelivery) -> None:
    """Take the next try for this process. Raises _TakenError."""
    now = timezone.now()
    seen = WebhookDelivery.objects.filter(pk=delivery.pk, status=Status.QUEUED, attempts=delivery.attempts)
    if not seen.update(attempts=F("attempts") + 1, tried_at=now, next_try_at=now + CLAIM):
        raise _TakenError
    delivery.attempts += 1


def _note_success(delivery: WebhookDelivery, answer: Answer) -> None:
    """Settle a delivery. If the webhook did not take any before, it is back: what waits for it is due now."""
    now = timezone.now()
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, status=Status.QUEUED)
    mine.update(status=Status.DELIVERED, next_try_at=None, last_status=answer.status, last_error="")
    webhook = Webhook.objects.filter(pk=delivery.webhook_id)
    webhook.update(delivered_at=now, failing_since=None, last_error="")
    if delivery.webhook.failing_since is not None:
        waiting = WebhookDelivery.objects.filter(webhook_id=delivery.webhook_id, next_try_at__gt=now)
        waiting.filter(tried_at__lt=now - CLAIM).update(next_try_at=now)  # nobody is at them now


def _note_failure(delivery: WebhookDelivery, answer: Answer) -> None:
    """Have a delivery tried again later, if there is time."""
    now, error = timezone.now(), clean(answer.error, 300)
    again_at = now + timedelta(seconds=_delay_seconds(delivery.attempts))
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, status=Status.QUEUED, attempts=delivery.attempts)
    mine.update(next_try_at=again_at, last_status=answer.status, last_error=error)
    webhook = Webhook.objects.filter(pk=delivery.webhook_id)
    webhook.update(failing_since=Coalesce("failing_since", Value(now)), last_error=error)
    logger.warning("The webhook %s did not take the delivery %s: %s", delivery.webhook.name, delivery.pk, error)
    if delivery.event == TEST or again_at >= delivery.give_up_at:
        give_up(delivery, error)


def _delay_seconds(failures: int) -> float:
    return full_jitter(failures, base_seconds=RETRY_BASE_SECONDS, cap_seconds=RETRY_CAP_SECONDS)
