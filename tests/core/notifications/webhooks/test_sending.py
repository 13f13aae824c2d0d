"""What happens to a delivery from when something happens until it is taken, or given up."""

import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import time_machine
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from core.models import CircuitBreaker, MaintenanceRun, Webhook, WebhookDelivery
from core.net import breakers
from core.notifications import Event, webhooks
from core.notifications.webhooks import Message, sending
from core.ops import maintenance
from core.tasks import send_webhook_deliveries
from tests.factories import make_delivery, make_webhook
from tests.program import PATIENCE_SECONDS, Program
from tests.servers import CUT, HANG, Receiver

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

KETTLE = Event("kettle-boiled", "Kettle", "The kettle boiled.", webhook=True)
BOILED = Message("The kettle boiled", "/admin/", "At noon.", {"kettle": 1})
ROOT = Path(__file__).resolve().parents[4]


def boil(*messages: Message) -> None:
    webhooks.tell(KETTLE, messages or [BOILED], timezone.now())


def run_job() -> str:
    run = maintenance.run("send_due_webhooks", trigger=MaintenanceRun.Trigger.COMMAND)
    assert run is not None
    assert run.status == "succeeded", run.error
    return run.summary


def later(**span: float) -> time_machine.travel:
    breakers.forget()  # what is remembered for a second is forgotten by then
    return time_machine.travel(timezone.now() + timedelta(**span), tick=True)


# Telling


def test_the_webhooks_that_want_an_event_are_told_once():
    wants, _, _ = (
        make_webhook(events=["kettle-boiled", "alert"]),
        make_webhook(events=["alert"]),
        make_webhook(events=["kettle-boiled"], is_active=False),
    )
    boil()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.webhook, delivery.event, delivery.status) == (wants, "kettle-boiled", "queued")
    assert (delivery.title, delivery.text, delivery.link, delivery.data) == (
        "The kettle boiled",
        "At noon.",
        "/admin/",
        {"kettle": 1},
    )


def test_of_what_collapses_the_first_is_told():
    make_webhook(events=["kettle-boiled"])
    other = make_webhook(events=["kettle-boiled"])
    keyed = [Message(f"The kettle boiled {number}", "/", collapse_key="noon") for number in range(3)]
    boil(*keyed)
    boil(*keyed[1:], Message("Evening", "/", collapse_key="evening"), Message("Once", "/"), Message("Twice", "/"))
    told = WebhookDelivery.objects.filter(webhook=other).order_by("created_at", "title")
    assert [delivery.title for delivery in told] == ["The kettle boiled 0", "Evening", "Once", "Twice"]
    assert WebhookDelivery.objects.count() == 8


def test_what_is_rolled_back_is_not_told():
    make_webhook(events=["kettle-boiled"])
    with transaction.atomic():
        boil()
        assert WebhookDelivery.objects.exists()
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()


def test_telling_costs_two_statements_and_one_where_nobody_wants_to_know(django_assert_num_queries):
    with django_assert_num_queries(1):
        boil()
    for _ in range(5):
        make_webhook(events=["kettle-boiled"])
    with transaction.atomic(), django_assert_num_queries(2):
        boil(*[Message(str(number), "/") for number in range(5)])
    assert WebhookDelivery.objects.count() == 25


def test_telling_reads_no_secret(settings):
    """A key of SUTAZAI_ENCRYPTION_KEYS that is missing must not keep tasks from ending."""
    make_webhook(events=["kettle-boiled"])
    settings.ENCRYPTION_KEYS = ["another key of more than thirty-two characters"]
    boil()
    assert WebhookDelivery.objects.count() == 1


def test_a_row_that_is_queued_has_a_next_try(webhook):
    delivery = make_delivery(webhook)
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookDelivery.objects.filter(pk=delivery.pk).update(next_try_at=None)


# Sending


def test_a_worker_sends_everything_that_is_due_the_oldest_first(webhook, receiver):
    for number in range(3):
        make_delivery(webhook, str(number))
    make_delivery(webhook, "later", next_try_at=timezone.now() + timedelta(minutes=1))
    send_webhook_deliveries(str(webhook.pk))
    assert [f'"title":"{number}"' in str(request.body) for number, request in enumerate(receiver.received)] == [
        True
    ] * 3
    assert set(WebhookDelivery.objects.values_list("title", "status", "attempts")) == {
        ("0", "delivered", 1),
        ("1", "delivered", 1),
        ("2", "delivered", 1),
        ("later", "queued", 0),
    }
    webhook.refresh_from_db()
    assert webhook.delivered_at is not None


def test_a_message_that_comes_again_or_for_nothing_sends_nothing(webhook, receiver):
    make_delivery(webhook)
    for _ in range(3):
        send_webhook_deliveries(str(webhook.pk))
    send_webhook_deliveries(str(uuid.uuid4()))
    assert len(receiver.received) == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_sends(webhook, receiver):
    make_delivery(webhook)

    def work(_: int) -> int:
        try:
            return sending.send_due(webhook.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 1
    assert len(receiver.received) == 1


def test_what_is_switched_off_is_sent_nothing_until_it_is_on_again(webhook, receiver):
    delivery = make_delivery(webhook)
    Webhook.objects.update(is_active=False)
    send_webhook_deliveries(str(webhook.pk))
    run_job()
    assert receiver.received == []
    Webhook.objects.update(is_active=True)
    run_job()
    assert receiver.received[0].headers["webhook-id"] == str(delivery.pk)


# Trying again


@pytest.mark.parametrize("failure", [500, 404, HANG, CUT])
@pytest.mark.usefixtures("impatient")
def test_what_was_not_taken_is_sent_again_with_its_id_and_body_at_a_new_time(webhook, receiver, failure):
    receiver.answers = [failure]
    delivery = make_delivery(webhook)
    send_webhook_deliveries(str(webhook.pk))
    delivery.refresh_from_db()
    webhook.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("queued", 1)
    assert timezone.now() - timedelta(seconds=60) < delivery.next_try_at <= timezone.now() + timedelta(seconds=60)
    assert (webhook.failing_since is None, webhook.last_error) == (False, delivery.last_error)
    with later(minutes=2):
        assert run_job() == "1 webhooks had something to be sent, and took 1 deliveries."
    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    delivery.refresh_from_db()
    webhook.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.next_try_at) == ("delivered", 2, None)
    assert (webhook.failing_since, webhook.last_error) == (None, "")


def test_the_pause_is_random_and_doubles_up_to_an_hour(monkeypatch):
    spans: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: spans.append((low, high)) or high)
    for attempts in (1, 2, 3, 6, 7, 60):
        sending._delay_seconds(attempts)
    assert spans == [(0, 60), (0, 120), (0, 240), (0, 1920), (0, 3600), (0, 3600)]


def test_what_was_not_taken_for_a_day_has_failed(webhook, receiver, caplog):
    receiver.answers = [400] * 100
    delivery = make_delivery(webhook)
    for hours in range(26):
        with later(hours=hours):
            sending.send_due(webhook.pk)
        delivery.refresh_from_db()
        if delivery.status == "failed":
            break
    assert (delivery.status, hours > 21, delivery.attempts > 10) == ("failed", True, True)
    assert "was given up" in caplog.text
    with later(days=2):
        run_job()
    assert len(receiver.received) == delivery.attempts


def test_what_could_not_be_sent_in_time_is_not_sent_late(webhook, receiver):
    delivery = make_delivery(webhook)
    with later(hours=25):
        run_job()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.last_error, receiver.received) == ("failed", "It was not sent in time.", [])


def test_the_breaker_spares_everybody_the_wait_and_nothing_is_lost(webhook, receiver, fake_clock):
    receiver.answers = [500] * 4
    for number in range(6):
        make_delivery(webhook, str(number))
    send_webhook_deliveries(str(webhook.pk))
    assert len(receiver.received) == 3
    assert CircuitBreaker.objects.get(name="webhook:ops-room").is_shut
    assert WebhookDelivery.objects.filter(status="queued", attempts=0).count() == 3
    waits = "It would try to send what is due to 0 webhooks. 1 wait until their breakers let something through."
    assert maintenance.preview("send_due_webhooks") == waits
    fake_clock.advance(60)
    assert maintenance.preview("send_due_webhooks") == "It would try to send what is due to 1 webhooks."
    with later(minutes=3):  # one probe, which fails as well
        run_job()
    assert len(receiver.received) == 4
    fake_clock.advance(60)
    with later(minutes=6):
        assert run_job().endswith("took 6 deliveries.")
    assert not WebhookDelivery.objects.exclude(status="delivered").exists()
    breakers.forget()
    assert not CircuitBreaker.objects.get(name="webhook:ops-room").is_shut


def test_one_that_is_back_gets_at_once_what_waits_for_it(webhook, receiver):
    waiting = make_delivery(webhook, attempts=9, tried_at=timezone.now() - timedelta(minutes=5))
    WebhookDelivery.objects.filter(pk=waiting.pk).update(next_try_at=timezone.now() + timedelta(minutes=50))
    Webhook.objects.update(failing_since=timezone.now() - timedelta(hours=8))
    make_delivery(webhook, "New")
    send_webhook_deliveries(str(webhook.pk))
    assert [request.headers["webhook-id"] for request in receiver.received][1:] == [str(waiting.pk)]


@pytest.mark.usefixtures("impatient")
def test_one_that_hangs_does_not_keep_the_others_from_theirs(webhook, receiver):
    receiver.answers = [HANG] * 3
    for _ in range(5):
        make_delivery(webhook)
    with Receiver() as other:
        make_delivery(make_webhook(other.url))
        run_job()
        assert len(other.received) == 1
    assert len(receiver.received) == 3


def test_an_answer_that_comes_after_the_webhook_was_deleted_is_no_error(webhook, receiver):
    delivery = make_delivery(webhook)
    found = WebhookDelivery.objects.select_related("webhook__breaker").get(pk=delivery.pk)
    Webhook.objects.get(pk=webhook.pk).delete()
    assert sending.send(found) is False
    assert not CircuitBreaker.objects.filter(name="webhook:ops-room").exists()


SENDER = """
import django
django.setup()
from ipaddress import ip_network
from uuid import UUID
from django.conf import settings
from core.notifications import webhooks
settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.1/32"),)
webhooks.send_due(UUID("{}"))
"""


@pytest.mark.django_db(transaction=True)
def test_what_a_process_did_not_settle_because_it_was_killed_is_sent_again(webhook, receiver, wait_until):
    receiver.answers = [HANG]
    delivery = make_delivery(webhook)
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER.format(webhook.pk)], cwd=ROOT, env={**os.environ, "DATABASE_URL": database()}
    )
    try:
        wait_until(lambda: receiver.received)
    finally:
        sender.send_signal(signal.SIGKILL)
        sender.wait()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("queued", 1)
    run_job()
    assert len(receiver.received) == 1  # somebody may be at it
    with later(minutes=2):
        run_job()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert {request.headers["webhook-id"] for request in receiver.received} == {str(delivery.pk)}


def database() -> str:
    """The address of the database of the tests."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    return f"postgres://{given['USER']}:{given['PASSWORD']}@{given['HOST']}:{given['PORT']}/{given['NAME']}"


# The whole way


@pytest.fixture
def program(tmp_path) -> Iterator[tuple[Program, Receiver]]:
    with Receiver() as receiver:
        environment = {
            "SUTAZAI_OPERATOR_PASSWORD": "a long password",
            "SUTAZAI_WEBHOOK_NETWORKS": "127.0.0.1",
        }
        with Program(tmp_path, **environment) as running:
            yield running, receiver


def test_a_new_sign_in_is_told_by_the_running_program(program, wait_until):
    """The whole way: sign-in, commit, message, worker, receiver."""
    running, receiver = program
    make = f"from tests.factories import make_webhook; make_webhook({receiver.url!r})"
    running.manage("shell", "-c", make)
    for agent in ("first app", "second app"):
        who = {"email": "operator", "password": "a long password"}
        response = requests.post(
            f"{running.url}/api/auth/login/", json=who, headers={"User-Agent": agent}, timeout=PATIENCE_SECONDS
        )
        assert response.status_code == 200
    wait_until(lambda: receiver.received)
    (request,) = receiver.received
    assert b"New sign-in of operator" in request.body
