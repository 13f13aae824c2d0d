"""Webhooks in the console."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.models import AuditEntry, CircuitBreaker, User, Webhook, WebhookDelivery
from core.net import breakers
from core.notifications import announcer
from tests.factories import make_delivery, make_operator, make_staff, make_webhook
from tests.servers import Receiver

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LIST = reverse("admin:core_webhook_changelist")
ADD = reverse("admin:core_webhook_add")
DELIVERIES = reverse("admin:core_webhookdelivery_changelist")
FORM = {"name": "ops-room", "url": "https://hooks.example/private", "format": "slack", "events": ["alert"]}


@pytest.fixture
def receiver(settings: Any):
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.1/32"),)
    with Receiver() as server:
        yield server


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The keys of webhooks for which a worker was called, once the transaction had ended."""
    found: list[Any] = []
    monkeypatch.setattr(announcer, "announce", lambda _, keys: found.extend(keys))
    return found


def page(webhook: Webhook) -> str:
    return reverse("admin:core_webhook_change", args=[webhook.pk])


def press(client: Client, button: str, row: Webhook | WebhookDelivery) -> str:
    name = f"admin:core_{row._meta.model_name}_{button}"
    return client.post(reverse(name, args=[row.pk]), follow=True).text


def browser_of(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def actions() -> list[str]:
    entries = AuditEntry.objects.filter(object_type__startswith="webhook").order_by("pk")
    return list(entries.values_list("action", flat=True))


# Making and changing


def test_a_new_one_shows_its_secret_once(console: Client) -> None:
    shown = console.post(ADD, FORM)
    webhook = Webhook.objects.get()
    assert (webhook.url, webhook.format, webhook.events, webhook.made_by, webhook.is_active) == (
        "https://hooks.example/private",
        "slack",
        ["alert"],
        "op",
        True,
    )
    assert webhook.secret in shown.text
    for address in (LIST, page(webhook), DELIVERIES):
        assert webhook.secret not in console.get(address).text
    assert console.get(page(webhook)).context["adminform"].form["url"].value() == "https://hooks.example/private"
    assert "/private" not in console.get(LIST).text


def test_neither_address_nor_secret_is_in_the_audit_log(console: Client) -> None:
    console.post(ADD, FORM)
    webhook = Webhook.objects.get()
    console.post(page(webhook), {**FORM, "url": "https://hooks.example/secluded", "events": ["task-failed"]})
    assert actions() == ["webhook.added", "webhook.changed"]
    told = " ".join(str(entry.changes) + entry.detail for entry in AuditEntry.objects.all())
    for hidden in ("private", "secluded", webhook.secret):
        assert hidden not in told
    assert "task-failed" in told


@pytest.mark.parametrize(
    ("field", "value", "flaw"),
    [
        ("url", "http://127.0.0.1/", "SUTAZAI_WEBHOOK_NETWORKS"),
        ("url", "hooks.example", "Write it in full"),
        ("url", "https://hooks.example/" + "x" * 2000, "at most 2000"),
        ("url", "https://hooks.example/\x00", "Null characters"),
        ("events", [], "required"),
        ("events", ["no-such-event"], "Select a valid choice"),
        ("events", ["test"], "Select a valid choice"),
        ("format", "morse", "Select a valid choice"),
        ("name", "", "required"),
        ("name", "taken", "already exists"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    console: Client, field: str, value: Any, flaw: str
) -> None:
    make_webhook(name="taken")
    response = console.post(ADD, {**FORM, field: value})
    assert flaw in " ".join(response.context["adminform"].form.errors[field])
    assert Webhook.objects.count() == CircuitBreaker.objects.filter(kind="webhook").count() == 1


def test_a_change_does_not_undo_what_is_written_down_meanwhile(console: Client) -> None:
    webhook = make_webhook()
    secret = webhook.secret
    console.post(page(webhook), {**FORM, "secret": "whsec_mine", "is_active": "", "made_by": "eve"})
    webhook.refresh_from_db()
    assert (webhook.name, webhook.secret, webhook.is_active, webhook.made_by) == ("ops-room", secret, True, "op")
    assert webhook.breaker.name == "webhook:ops-room"


def test_a_new_secret_is_shown_once_and_both_sign_for_a_day(console: Client) -> None:
    webhook = make_webhook()
    text = press(console, "new_secret", webhook)
    old, webhook = webhook.secret, Webhook.objects.get()
    assert webhook.secret in text
    assert old not in text
    assert (webhook.previous_secret, actions()) == (old, ["webhook.secret-renewed"])
    text = console.get(page(webhook)).text
    assert "the old one signs as well" in text
    assert webhook.secret not in text


@pytest.mark.parametrize("address", [ADD, "new_secret"])
def test_a_secret_is_shown_to_who_signed_in_recently_alone(console: Client, settings: Any, address: str) -> None:
    webhook = make_webhook()
    settings.RECENT_SIGN_IN_SECONDS = -1
    address = address if address == ADD else reverse("admin:core_webhook_new_secret", args=[webhook.pk])
    response = console.post(address, FORM)
    assert (response.status_code, "?next=" in response["Location"]) == (302, True)
    assert (Webhook.objects.count(), Webhook.objects.get().secret) == (1, webhook.secret)


# Buttons


def test_a_test_says_how_it_went(console: Client, receiver: Receiver) -> None:
    webhook = make_webhook(receiver.url)
    receiver.answers, receiver.text = [204, 404], "<i>no such hook</i>"
    assert "took it: it answered 204." in press(console, "send_test", webhook)
    assert "did not take it. It answered 404: &lt;i&gt;no such hook" in press(console, "send_test", webhook)
    assert actions() == ["webhook.send-test"] * 2
    text = console.get(page(webhook)).text
    assert ">Failing<" in text
    assert "Mend the receiver" in text


def test_one_that_is_switched_off_can_be_deleted_and_its_breaker_goes_with_it(console: Client, announced: Any) -> None:
    webhook = make_webhook()
    make_delivery(webhook)
    delete = reverse("admin:core_webhook_delete", args=[webhook.pk])
    assert console.post(delete, {"post": "yes"}).status_code == 403
    press(console, "switch_off", webhook)
    webhook.refresh_from_db()
    assert not webhook.is_active
    assert "Switched off" in console.get(LIST).text
    assert console.post(delete, {"post": "yes"}).status_code == 302
    assert not Webhook.objects.exists()
    assert not WebhookDelivery.objects.exists()
    assert not CircuitBreaker.objects.filter(kind="webhook").exists()
    assert actions() == ["webhook.switch-off", "webhook.deleted"]


def test_switching_on_sends_what_waits(
    console: Client, announced: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    webhook = make_webhook(is_active=False)
    with django_capture_on_commit_callbacks(execute=True):
        press(console, "switch_on", webhook)
        assert announced == []
    webhook.refresh_from_db()
    assert (webhook.is_active, announced) == (True, [webhook.pk])


def test_all_at_once_are_not_deleted(console: Client) -> None:
    webhook = make_webhook(is_active=False)
    console.post(LIST, {"action": "delete_selected", "_selected_action": [str(webhook.pk)], "post": "yes"})
    assert Webhook.objects.exists()


# The list


def test_the_list_says_what_is_wrong_since_when_and_why(console: Client) -> None:
    long_ago = timezone.now() - timedelta(hours=3)
    make_webhook(name="well", delivered_at=long_ago)
    make_webhook(name="new")
    make_webhook(name="off", is_active=False)
    held = make_webhook(name="held", delivered_at=long_ago)
    breakers.hold(held.breaker_id, CircuitBreaker.Forced.OPEN, by=make_operator(), reason="new disks")
    failing = make_webhook(name="broken", failing_since=long_ago, last_error="It answered 500: <b>")
    for _ in range(3):
        make_delivery(failing)
    text = console.get(LIST).text
    for shown in (">Failing<", "3 h 00 min", "It answered 500: &lt;b&gt;", ">Works<", ">Not tried<", ">Switched off<"):
        assert shown in text
    assert "Held open" in text
    assert "hooks.example" in text
    assert "/T0/B0" not in text
    assert text.index(">broken<") < text.index(">well<") < text.index(">off<")
    assert DELIVERIES in text


def test_a_list_of_nothing_says_what_it_is_for(console: Client) -> None:
    assert "A webhook tells another program" in console.get(LIST).text
    assert "Nothing was sent to a webhook so far." in console.get(DELIVERIES).text


def test_a_breaker_leads_to_its_webhook(console: Client) -> None:
    webhook = make_webhook()
    text = console.get(reverse("admin:core_circuitbreaker_change", args=[webhook.breaker_id])).text
    assert page(webhook) in text
    assert "Open the webhook" in text


def test_the_dashboard_tells_of_one_that_fails_and_is_on(console: Client) -> None:
    since = timezone.now() - timedelta(hours=3)
    make_webhook(is_active=False, failing_since=since, last_error="x")
    make_webhook()
    failing = make_webhook(name="ops-room", failing_since=since, last_error="It answered 500.")
    cache.clear()
    problems = console.get(reverse("console-dashboard")).json()["problems"]
    (problem,) = [item for item in problems if "webhook" in item["title"]]
    assert (problem["title"], problem["detail"], problem["url"]) == (
        "The webhook ops-room does not take what it is sent",
        "It answered 500.",
        page(failing),
    )


# Deliveries


def test_a_delivery_tells_everything_and_is_tried_again(console: Client, receiver: Receiver) -> None:
    webhook = make_webhook(receiver.url)
    receiver.answers = [500, 204]
    delivery = make_delivery(webhook, "Alert: <b>x</b>", status="failed", next_try_at=None, attempts=30)
    address = reverse("admin:core_webhookdelivery_change", args=[delivery.pk])
    text = console.get(address).text
    for shown in (
        str(delivery.pk),
        "Alert: &lt;b&gt;x&lt;/b&gt;",
        "Try again",
        page(webhook),
        "What runs there is lost",
    ):
        assert shown in text
    assert "did not take it. It answered 500." in press(console, "send_again", delivery)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("queued", 1)
    assert "took it: it answered 204." in press(console, "send_again", delivery)
    assert "Try again" not in console.get(address).text
    assert "delivered already" in press(console, "send_again", delivery)
    assert [request.headers["webhook-id"] for request in receiver.received] == [str(delivery.pk)] * 2


def test_while_its_breaker_is_held_open_it_waits(console: Client, receiver: Receiver) -> None:
    webhook = make_webhook(receiver.url, name="held")
    breakers.hold(webhook.breaker_id, CircuitBreaker.Forced.OPEN, by=make_operator(), reason="new disks")
    delivery = make_delivery(webhook, status="failed", next_try_at=None)
    assert "It waits" in press(console, "send_again", delivery)
    delivery.refresh_from_db()
    assert (delivery.status, receiver.received) == ("queued", [])


def test_several_are_tried_again_by_a_worker(
    console: Client, announced: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    webhook = make_webhook()
    rows = [make_delivery(webhook, status=status, next_try_at=None) for status in ("failed", "failed", "delivered")]
    data = {"action": "send_selected_again", "_selected_action": [str(row.pk) for row in rows]}
    with django_capture_on_commit_callbacks(execute=True):
        text = console.post(DELIVERIES, data, follow=True).text
    assert "Queued 2 deliver" in text
    assert "Skipped 1 deliver" in text
    assert WebhookDelivery.objects.filter(status="queued").count() == 2
    assert announced == [webhook.pk]


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("status__exact=failed", {"b"}),
        ("event=test", {"c"}),
        ("webhook__name=other", {"d"}),
        ("q=It answered 404", {"b"}),
    ],
)
def test_deliveries_are_filtered(console: Client, query: str, titles: set[str]) -> None:
    webhook = make_webhook()
    make_delivery(webhook, "a")
    make_delivery(webhook, "b", status="failed", next_try_at=None, last_error="It answered 404.")
    make_delivery(webhook, "c", event="test")
    make_delivery(make_webhook(name="other"), "d")
    found = console.get(f"{DELIVERIES}?{query}").context["cl"].result_list
    assert {delivery.title for delivery in found} == titles


def test_deliveries_are_written_by_nobody(console: Client) -> None:
    delivery = make_delivery(make_webhook())
    assert console.get(reverse("admin:core_webhookdelivery_add")).status_code == 403
    assert console.post(reverse("admin:core_webhookdelivery_delete", args=[delivery.pk])).status_code == 403
    console.post(reverse("admin:core_webhookdelivery_change", args=[delivery.pk]), {"title": "x"})
    assert WebhookDelivery.objects.get().title == delivery.title


# Who may


def test_it_is_for_operators(clerk: Client, receiver: Receiver) -> None:
    webhook = make_webhook(receiver.url)
    delivery = make_delivery(webhook)
    pages = [LIST, ADD, page(webhook), DELIVERIES, reverse("admin:core_webhookdelivery_change", args=[delivery.pk])]
    operator = browser_of(make_operator())
    for address in pages:
        assert clerk.get(address).status_code == 403
        assert operator.get(address).status_code == 200
    looking = browser_of(make_staff("view_webhook", "view_webhookdelivery"))
    for address in pages:
        assert looking.get(address).status_code == (403 if address == ADD else 200)
    text = looking.get(page(webhook)).text
    for button in ("send-test", "new-secret", "switch-off"):
        assert f"../{button}/" not in text
    for client in (clerk, looking):
        for button in ("send_test", "new_secret", "switch_off", "switch_on"):
            assert client.post(reverse(f"admin:core_webhook_{button}", args=[webhook.pk])).status_code == 403
        again = reverse("admin:core_webhookdelivery_send_again", args=[delivery.pk])
        assert client.post(again).status_code == 403
        client.post(DELIVERIES, {"action": "send_selected_again", "_selected_action": [str(delivery.pk)]})
    assert (receiver.received, WebhookDelivery.objects.count(), Webhook.objects.get().secret) == (
        [],
        1,
        webhook.secret,
    )
