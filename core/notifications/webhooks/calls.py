"""One call to a receiver: signed, bounded in every way, never redirected, and only to where webhooks may lead."""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from core.audit.changes import clean
from core.models import Webhook, WebhookDelivery
from core.net import addresses, places
from core.net.calls import Timeouts
from core.net.errors import NetError
from core.net.http import HttpResponse, pool
from core.notifications.webhooks import signatures
from core.notifications.webhooks.contents import content_of

TIMEOUTS = Timeouts(connect=5, write=5, pool=5, first_byte=10, gap=5)
DEADLINE_SECONDS = 20  # of all of it together
MAX_ANSWER_BYTES = 64 * 1024
SHOWN = 200  # characters of an answer that is no success
# A secret that was replaced signs beside the new one for so long, so that receivers can change over.
OVERLAP = timedelta(days=1)


@dataclass(frozen=True)
class Answer:
    """How a try ended. status: None where no answer came. error: empty where the receiver took what it was sent."""

    status: int | None
    error: str = ""


def post(delivery: WebhookDelivery) -> Answer:
    """Send a delivery to its webhook. Raises NetError."""
    webhook = delivery.webhook
    content = content_of(delivery, Webhook.Format(webhook.format))
    signed = signatures.headers(
        _secrets_of(webhook), delivery_id=str(delivery.pk), timestamp=int(time.time()), body=content.body
    )
    named = {"Content-Type": content.type, "User-Agent": f"SutazAI/{settings.VERSION}"}
    with pool(places.EXTERNAL, addresses.external).send(
        "POST",
        webhook.url,
        timeouts=TIMEOUTS,
        headers={**named, **signed},
        body=content.body,
        deadline=time.monotonic() + DEADLINE_SECONDS,
    ) as answer:
        text = _text_of(answer)
    if 200 <= answer.status < 300:
        return Answer(answer.status)
    if 300 <= answer.status < 400:
        text = "redirects are not followed."
    return Answer(answer.status, f"It answered {answer.status}{': ' if text else '.'}{text}")


def _secrets_of(webhook: Webhook) -> list[str]:
    overlaps = webhook.replaced_at is not None and timezone.now() < webhook.replaced_at + OVERLAP
    return [webhook.secret, webhook.previous_secret] if overlaps else [webhook.secret]


def _text_of(answer: HttpResponse) -> str:
    """The beginning of an answer's text, on one line. Whether it was a success, its status has told already."""
    with suppress(NetError):
        return clean(" ".join(answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace").split()), SHOWN)
    return ""
