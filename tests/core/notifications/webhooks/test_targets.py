"""What operators do with a webhook."""

import io
from ipaddress import ip_network

import pytest
from django.core.management import call_command
from django.db import connection

from core.exceptions import InvalidInput
from core.models import AuditEntry, CircuitBreaker, Webhook, WebhookDelivery
from core.net import breakers
from core.notifications.webhooks import targets
from tests.factories import make_operator, make_webhook

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.example/services/T0/B0/x",
        " http://hooks.example:8080/?a=b ",
        "https://ntfy.sh/topic",
        "http://93.184.216.34/",
        "http://intranet/hook",  # looked up when something is sent
        "http://10.1.2.3/",  # listed
    ],
)
def test_addresses_of_web_servers_are_taken(settings, address):
    settings.WEBHOOK_NETWORKS = (ip_network("10.1.0.0/16"),)
    assert targets.read_address(address) == address.strip()


@pytest.mark.parametrize(
    ("address", "flaw"),
    [
        ("", "no address"),
        ("hooks.example/x", "no address"),
        ("https://", "no address"),
        ("http://host:port/", "no address"),
        ("ftp://hooks.example/", "no address"),
        ("ftp://hooks.example:21/", "begins with https"),
        ("file:///etc/passwd", "no address"),
        ("javascript:alert(1)", "no address"),
        ("https://user:password@hooks.example/", "Leave the name"),
        ("http://127.0.0.1/", "no network that SUTAZAI_WEBHOOK_NETWORKS allows"),
        ("http://[::1]:8000/", "no network"),
        ("http://[::ffff:127.0.0.1]/", "no network"),
        ("http://10.1.2.3/", "no network"),
        ("http://169.254.169.254/latest/meta-data", "no network"),
    ],
)
def test_other_addresses_are_refused(address, flaw):
    with pytest.raises(InvalidInput) as refusal:
        targets.read_address(address)
    assert flaw in refusal.value.errors["url"][0]


def test_clouds_credentials_are_refused_whatever_is_listed(settings):
    settings.WEBHOOK_NETWORKS = (ip_network("0.0.0.0/0"),)
    with pytest.raises(InvalidInput):
        targets.read_address("http://169.254.169.254/")


def test_address_and_secrets_are_encrypted_and_encrypted_again_with_a_new_key(settings):
    settings.ENCRYPTION_KEYS = ["the old key of more than thirty-two characters"]
    webhook = make_webhook("https://hooks.example/very-private-path")
    secret = targets.renew_secret(webhook)
    assert stored().isdisjoint({webhook.secret, secret, "https://hooks.example/very-private-path"})
    new = "the new key of more than thirty-two characters"
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    call_command("rotate_secrets", stdout=io.StringIO())
    settings.ENCRYPTION_KEYS = [new]
    found = Webhook.objects.get()
    assert (found.url, found.secret, found.previous_secret) == (webhook.url, secret, webhook.secret)


def stored() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT url, secret, previous_secret FROM core_webhook")
        return set(cursor.fetchone())


def test_a_new_secret_is_in_the_audit_log_and_cannot_be_read_there():
    webhook = make_webhook()
    secret = targets.renew_secret(webhook)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_id) == ("webhook.secret-renewed", str(webhook.pk))
    assert set(entry.changes) == {"secret", "previous_secret", "replaced_at"}
    assert secret not in str(entry.changes)
    assert webhook.secret not in str(entry.changes)


def test_a_test_is_tried_once_and_also_where_the_webhook_is_switched_off(receiver, webhook):
    Webhook.objects.update(is_active=False)
    receiver.answers = [204, 500]
    taken, refused = (targets.send_test(Webhook.objects.get()) for _ in range(2))
    assert (taken.status, taken.last_status) == ("delivered", 204)
    assert (refused.status, refused.last_status, refused.last_error) == ("failed", 500, "It answered 500.")
    assert b'"type":"test"' in receiver.received[0].body


def test_a_test_says_so_where_the_breaker_is_held_open(receiver, webhook):
    breakers.hold(webhook.breaker_id, CircuitBreaker.Forced.OPEN, by=make_operator(), reason="new disks")
    delivery = targets.send_test(webhook)
    assert (delivery.status, delivery.last_error) == ("failed", "webhook:ops-room is away: new disks")
    assert receiver.received == []


def test_a_breaker_comes_and_goes_with_its_webhook_and_bears_its_name():
    webhook = make_webhook(name="one")
    assert CircuitBreaker.objects.get().name == "webhook:one"
    webhook.name = "two"
    webhook.save()
    assert (CircuitBreaker.objects.get().name, CircuitBreaker.objects.get().kind) == ("webhook:two", "webhook")
    webhook.delete()
    assert not CircuitBreaker.objects.exists()
    assert not WebhookDelivery.objects.exists()
