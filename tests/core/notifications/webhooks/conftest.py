from collections.abc import Callable

import pytest

from core.models import Webhook, WebhookDelivery
from core.net.calls import Timeouts
from core.notifications.webhooks import calls, sending
from tests.factories import make_webhook
from tests.servers import Receiver


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an answer for longer than a second."""
    monkeypatch.setattr(calls, "TIMEOUTS", Timeouts(connect=5, write=5, pool=5, first_byte=1, gap=1))


@pytest.fixture
def webhook(receiver: Receiver) -> Webhook:
    return make_webhook(receiver.url, name="ops-room")


@pytest.fixture
def send() -> Callable[[WebhookDelivery], bool]:
    """Send a delivery as the database has it; tells whether it was taken."""

    def send(delivery: WebhookDelivery) -> bool:
        found = WebhookDelivery.objects.select_related("webhook__breaker").get(pk=delivery.pk)
        taken = sending.send(found)
        delivery.refresh_from_db()
        return taken

    return send
