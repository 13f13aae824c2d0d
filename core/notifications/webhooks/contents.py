"""What a delivery looks like to its receiver. It is made anew for each try, so that a format can be corrected."""

import json
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from django.conf import settings

from core.models import Webhook, WebhookDelivery

Format = Webhook.Format


class Content(NamedTuple):
    type: str
    body: bytes


def content_of(delivery: WebhookDelivery, format_: "Webhook.Format") -> Content:
    return _WRITERS[format_](delivery)


def _standard(delivery: WebhookDelivery) -> Content:
    return _json(
        {
            "type": delivery.event,
            "timestamp": delivery.created_at.isoformat(),
            "data": {**delivery.data, "title": delivery.title, "text": delivery.text, "link": _link(delivery)},
        }
    )


def _slack(delivery: WebhookDelivery) -> Content:
    """A name is no mention of anybody, and no link. Source: Slack, "Escaping text"."""
    return _json({"text": escape(_lines(delivery), quote=False)})


def _discord(delivery: WebhookDelivery) -> Content:
    return _json({"content": _lines(delivery), "allowed_mentions": {"parse": []}})


def _plain(delivery: WebhookDelivery) -> Content:
    return Content("text/plain; charset=utf-8", _lines(delivery).encode())


_WRITERS: dict[str, Callable[[WebhookDelivery], Content]] = {
    Format.STANDARD: _standard,
    Format.SLACK: _slack,
    Format.DISCORD: _discord,
    Format.PLAIN: _plain,
}


def _json(fields: dict[str, Any]) -> Content:
    return Content("application/json", json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())


def _lines(delivery: WebhookDelivery) -> str:
    return "\n".join(filter(None, [delivery.title, delivery.text, _link(delivery)]))


def _link(delivery: WebhookDelivery) -> str:
    return f"{settings.PUBLIC_URL}{delivery.link}"
