"""What operators do with a webhook: its address, its secret, and trying it."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from django.db import transaction
from django.utils import timezone

from core import audit
from core.exceptions import InvalidInput
from core.models import Webhook, WebhookDelivery
from core.net import addresses
from core.net.calls import DEFAULT_PORTS, checked_request
from core.net.errors import BreakerOpen, InvalidUrl
from core.notifications.webhooks import sending, signatures
from core.notifications.webhooks.sending import TEST, Message

MAX_ADDRESS_CHARACTERS = 2000


def read_address(text: str) -> str:
    """Check an address that somebody gives. Raises InvalidInput.

    What a name stands for is looked at when something is sent: it may be another address by then.
    """
    address = text.strip()
    try:
        _, target = checked_request("POST", address)
    except InvalidUrl:
        raise _flaw("This is no address of a web server. Write it in full: https://hooks.example/T0/B0.") from None
    if target.scheme not in DEFAULT_PORTS:
        raise _flaw("An address begins with https:// or http://.")
    if "@" in urlsplit(address).netloc:
        raise _flaw("Leave the name and the password out: a signature tells who sends.")
    if not _may_lead_to(target.host):
        raise _flaw(f"{target.host} is in no network that {addresses.external().setting} allows.")
    return address


def _flaw(text: str) -> InvalidInput:
    return InvalidInput({"url": [text]})


def _may_lead_to(host: str) -> bool:
    try:
        return addresses.external().allows(ip_address(host))
    except ValueError:  # a name
        return True


def renew_secret(webhook: Webhook) -> str:
    """Give a webhook a new secret, which is returned; the old one signs beside it for a day."""
    with transaction.atomic():
        found = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
        before = audit.snapshot(found)
        found.previous_secret, found.secret = found.secret, signatures.new_secret()
        found.replaced_at = timezone.now()
        found.save(update_fields=["secret", "previous_secret", "replaced_at"])
        audit.record("webhook.secret-renewed", target=found, before=before, after=found)
    return found.secret


def send_test(webhook: Webhook) -> WebhookDelivery:
    """Send a webhook something now, also one that is switched off; returns how that went."""
    text = "If you can read this, the webhook works."
    message = Message(f"Test of the webhook {webhook.name}", f"/admin/core/webhook/{webhook.pk}/change/", text)
    delivery = sending.row(webhook.pk, TEST, message, timezone.now())
    delivery.webhook = webhook
    delivery.save(force_insert=True)
    try:
        sending.send(delivery)
    except BreakerOpen as error:
        sending.give_up(delivery, str(error))
    delivery.refresh_from_db()
    return delivery
