"""One call to a real receiver: what it is sent in each format, and how its answers are understood."""

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from threading import Thread

import pytest
import time_machine
from django.utils import timezone

from core.models import Webhook, WebhookDelivery
from core.notifications.webhooks import calls, sending, targets
from tests.factories import make_delivery, make_webhook
from tests.servers import CUT, HANG, Canary, Received

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

HANDBOOK = Path(__file__).resolve().parents[4] / "docs" / "handbook" / "webhooks.md"


def is_signed_with(secret: str, request: Received) -> bool:
    """Check a request as a receiver would, by the words of the specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join(
        [request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body]
    )
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in request.headers["webhook-signature"].split(" ")


def test_a_delivery_is_signed_over_its_id_its_time_and_its_body(webhook, receiver, send):
    delivery = make_delivery(webhook, data={"alert": "NodeLost", "labels": {"node": "gpu-1"}})
    assert send(delivery)
    (request,) = receiver.received
    assert is_signed_with(webhook.secret, request)
    assert not is_signed_with(webhook.secret, Received(request.path, request.headers, request.body + b" "))
    assert request.headers["webhook-id"] == str(delivery.pk)
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert (request.path, request.headers["content-type"]) == ("/hook/very-private-path", "application/json")
    assert request.headers["user-agent"].startswith("SutazAI/")
    assert json.loads(request.body) == {
        "type": "alert",
        "timestamp": delivery.created_at.isoformat(),
        "data": {
            "alert": "NodeLost",
            "labels": {"node": "gpu-1"},
            "title": "Alert: The node gpu-1 is lost",
            "text": "What runs there is lost.",
            "link": "https://sutazai.example/admin/",
        },
    }


LINES = "<!here> & co\nWhat runs there is lost.\nhttps://sutazai.example/admin/"


@pytest.mark.parametrize(
    ("format_", "kind", "body"),
    [
        ("slack", "application/json", {"text": f"&lt;!here&gt; &amp; co{LINES[12:]}"}),
        ("discord", "application/json", {"content": LINES, "allowed_mentions": {"parse": []}}),
        ("plain", "text/plain; charset=utf-8", LINES),
    ],
)
def test_chat_rooms_are_sent_what_they_show_and_names_mention_nobody(receiver, send, format_, kind, body):
    webhook = make_webhook(receiver.url, format=format_)
    assert send(make_delivery(webhook, "<!here> & co"))
    (request,) = receiver.received
    assert request.headers["content-type"] == kind
    assert (request.body.decode() if format_ == "plain" else json.loads(request.body)) == body
    assert is_signed_with(webhook.secret, request)


def test_the_lines_of_the_handbook_check_a_delivery(webhook, receiver, send):
    """The example as it stands there: genuine, altered, old, and with another's secret."""
    lines = HANDBOOK.read_text().split("    import base64, hashlib", 1)[1].split("\n## ", 1)[0]
    example: dict[str, Callable[..., bool]] = {}
    exec("\n".join(line[4:] for line in f"    import base64, hashlib{lines}".splitlines()), example)
    is_genuine = example["is_genuine"]
    assert send(make_delivery(webhook))
    (request,) = receiver.received
    assert is_genuine(webhook.secret, request.headers, request.body)
    assert not is_genuine(webhook.secret, request.headers, request.body + b" ")
    assert not is_genuine(webhook.secret, {**request.headers, "webhook-id": "another"}, request.body)
    assert not is_genuine(make_webhook().secret, request.headers, request.body)
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        assert not is_genuine(webhook.secret, request.headers, request.body)


def test_a_new_secret_signs_beside_the_old_one_for_a_day(webhook, receiver, send):
    old, new = webhook.secret, targets.renew_secret(webhook)
    assert send(make_delivery(webhook))
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert send(make_delivery(webhook))
    first, second = receiver.received
    assert (is_signed_with(old, first), is_signed_with(new, first)) == (True, True)
    assert (is_signed_with(old, second), is_signed_with(new, second)) == (False, True)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_success_is_one(webhook, receiver, send, status):
    receiver.answers = [status]
    delivery = make_delivery(webhook)
    assert send(delivery)
    assert (delivery.status, delivery.last_status, delivery.last_error) == ("delivered", status, "")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (400, (400, "It answered 400: no_text <b>")),
        (410, (410, "It answered 410: no_text <b>")),
        (500, (500, "It answered 500: no_text <b>")),
        (307, (307, "It answered 307: redirects are not followed.")),
        (HANG, (None, "nothing came within 1 s")),
        (CUT, (None, "RemoteDisconnected")),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_anything_else_is_a_failure_that_says_why(webhook, receiver, send, answer, outcome):
    receiver.answers, receiver.text = [answer], "no_text\n <b>"
    delivery = make_delivery(webhook)
    assert not send(delivery)
    assert (delivery.status, delivery.last_status) == ("queued", outcome[0])
    assert outcome[1] in delivery.last_error
    assert len(receiver.received) == 1


def test_an_answer_without_an_end_is_left(webhook, monkeypatch, settings, send):
    """It was a success all the same: its status had come."""
    monkeypatch.setattr(calls, "DEADLINE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Webhook.objects.filter(pk=webhook.pk).update(url=f"http://127.0.0.1:{listener.getsockname()[1]}/")

        def talk() -> None:
            client, _ = listener.accept()
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    client.sendall(b"x" * 100)
                    time.sleep(0.01)
            except OSError:
                client.close()

        thread = Thread(target=talk)
        thread.start()
        assert send(make_delivery(webhook))
        thread.join()


@pytest.mark.parametrize("networks", [(), (ip_network("10.0.0.0/8"),)])
def test_a_name_that_leads_inside_is_not_called(settings, networks, send, monkeypatch):
    canary = Canary()
    settings.WEBHOOK_NETWORKS = networks
    delivery = make_delivery(make_webhook(f"http://localhost:{canary.port}/"))
    assert not send(delivery)
    assert canary.hits() == 0
    assert delivery.last_error == "localhost is in no network that SUTAZAI_WEBHOOK_NETWORKS allows"
    assert delivery.status == "queued"  # it may be allowed until then
    canary.close()


@pytest.mark.parametrize("answer", [500, HANG, CUT, None])
@pytest.mark.usefixtures("impatient")
def test_neither_the_path_nor_the_secret_is_in_an_error_or_in_the_log(webhook, receiver, send, caplog, answer):
    caplog.set_level("DEBUG")
    if answer is None:
        Webhook.objects.filter(pk=webhook.pk).update(url="http://127.0.0.1:1/hook/very-private-path")
    receiver.answers = [answer]
    assert not send(make_delivery(webhook))
    webhook.refresh_from_db()
    assert webhook.last_error
    seen = f"{caplog.text} {webhook.last_error} {WebhookDelivery.objects.get().last_error}"
    assert "ops-room" in caplog.text
    for secret in ("very-private-path", webhook.secret, webhook.secret.removeprefix("whsec_")):
        assert secret not in seen


def test_an_error_that_is_very_long_is_cut(webhook, receiver, send):
    receiver.answers, receiver.text = [500], "\x00" + "x" * 5000
    delivery = make_delivery(webhook)
    assert not send(delivery)
    assert len(delivery.last_error) < 300
    assert sending.Status(delivery.status) == "queued"
