"""What no worker sends, because none lives: sent by whoever watches, to a real mail server and a real receiver."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from django.utils import timezone

from core.models import Lease, Notification, User, WebhookDelivery
from core.net.calls import Timeouts
from core.notifications import Event, News, emails, notify, overdue
from core.notifications.webhooks import calls, sending
from core.ops import health
from core.ops.alerts import figures, watch
from core.ops.alerts.watch import ALERT
from core.ops.health_history import Writer
from tests.factories import make_alert, make_delivery, make_operator, make_webhook
from tests.mail_server import MailServer
from tests.program import PATIENCE_SECONDS
from tests.servers import HANG, Receiver

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LONG_AGO = timedelta(minutes=1)


@pytest.fixture
def operator(db: None) -> User:
    return make_operator(email="ada@example.com")


def due_email(event: Event, person: User, *, since: timedelta = LONG_AGO) -> Notification:
    notify(replace(event, email=True), [News(person.pk, "Alert: No worker lives", "/")], timezone.now() - since)
    return Notification.objects.latest("pk")


def due_delivery(receiver: Receiver, *, since: timedelta = LONG_AGO, event: str = "alert") -> WebhookDelivery:
    return make_delivery(make_webhook(receiver.url), event=event, next_try_at=timezone.now() - since)


def test_what_is_overdue_is_sent_once(operator: User, mail: MailServer, receiver: Receiver) -> None:
    email, delivery = due_email(ALERT, operator), due_delivery(receiver)
    assert [overdue.send_emails(ALERT), overdue.send_deliveries(ALERT)] == [1, 1]
    assert [overdue.send_emails(ALERT), overdue.send_deliveries(ALERT)] == [0, 0]
    assert [message["Subject"] for message in mail.messages] == ["SutazAI: Alert: No worker lives"]
    assert [request.headers["webhook-id"] for request in receiver.received] == [str(delivery.pk)]
    email.refresh_from_db()
    delivery.refresh_from_db()
    assert (email.email_due_at, delivery.status) == (None, "delivered")


def test_what_a_worker_may_be_about_to_send_is_left_to_it(
    operator: User, mail: MailServer, receiver: Receiver
) -> None:
    due_email(ALERT, operator, since=timedelta(0))
    due_delivery(receiver, since=timedelta(0))
    assert [overdue.send_emails(ALERT), overdue.send_deliveries(ALERT)] == [0, 0]
    assert (mail.tries, receiver.received) == (0, [])


def test_what_is_no_alert_is_left_to_the_jobs(
    event: Event, operator: User, mail: MailServer, receiver: Receiver
) -> None:
    due_email(event, operator)
    due_delivery(receiver, event=event.name)
    assert [overdue.send_emails(ALERT), overdue.send_deliveries(ALERT)] == [0, 0]
    assert (mail.tries, receiver.received) == (0, [])


def test_in_one_go_there_are_not_more_emails_than_so_many(
    operator: User, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "MOST", 2)
    mail.refusals = 2
    for _ in range(3):
        due_email(ALERT, operator)
    assert overdue.send_emails(ALERT) == 0
    assert overdue.send_emails(ALERT) == 1  # what was refused waits for its next try


def test_a_webhook_that_is_away_keeps_the_others_from_nothing(receiver: Receiver) -> None:
    receiver.answers = [500] * 3
    for _ in range(5):
        due_delivery(receiver)
    with Receiver() as other:
        due_delivery(other)
        overdue.send_deliveries(ALERT)
        assert len(other.received) == 1


@pytest.mark.django_db(transaction=True)
def test_of_those_who_watch_and_the_workers_one_sends(operator: User, mail: MailServer, receiver: Receiver) -> None:
    email, delivery = due_email(ALERT, operator), due_delivery(receiver)
    works: list[Callable[[], object]] = [
        partial(overdue.send_emails, ALERT),
        partial(emails.send, email.pk),
        partial(overdue.send_deliveries, ALERT),
        partial(sending.send_due, delivery.webhook_id),
    ]

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, works * 2))
    assert (len(mail.messages), len(receiver.received)) == (1, 1)


# The whole way, without a worker


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """One round of the thread that watches, which itself would outlive the test, with nothing new to be found."""
    rounds: list[Callable[[], None]] = []
    monkeypatch.setattr(watch, "start_endless", lambda _, work: rounds.append(work))
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0)
    monkeypatch.setattr(watch, "_watch", watch.Watch())
    monkeypatch.setattr(watch, "_history", Writer())
    monkeypatch.setattr(watch, "_sender", overdue.Sender(ALERT))
    monkeypatch.setattr(health, "start", lambda: None)
    monkeypatch.setattr(figures, "ask_web", lambda: None)
    watch.start.cache_clear()
    watch.start()
    yield rounds[0]
    watch.start.cache_clear()


def tell_long_ago(receiver: Receiver) -> None:
    """Have an alert fire that operators and a webhook are told of, and let time pass."""
    make_webhook(receiver.url)
    make_alert(told_at=None)
    watch.tell_of_firing(timezone.now() - LONG_AGO)


@pytest.mark.django_db(transaction=True)
def test_an_alert_is_told_by_email_and_webhooks_while_no_worker_lives(
    operator: User, mail: MailServer, receiver: Receiver, look: Callable[[], None], wait_until: Callable[..., None]
) -> None:
    tell_long_ago(receiver)
    look()
    wait_until(lambda: mail.messages and receiver.received)
    wait_until(lambda: WebhookDelivery.objects.filter(status="delivered").exists())
    wait_until(lambda: Notification.objects.exclude(emailed_at=None).exists())
    assert (len(mail.messages), len(receiver.received)) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("operator")
def test_a_receiver_that_takes_its_time_keeps_nobody_from_looking_or_from_emails(
    mail: MailServer,
    receiver: Receiver,
    look: Callable[[], None],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient = 2 * PATIENCE_SECONDS
    monkeypatch.setattr(calls, "TIMEOUTS", Timeouts(connect=5, write=5, pool=5, first_byte=patient, gap=patient))
    monkeypatch.setattr(calls, "DEADLINE_SECONDS", patient)
    receiver.answers = [HANG]
    tell_long_ago(receiver)
    look()
    wait_until(lambda: receiver.received)
    wait_until(lambda: Notification.objects.exclude(emailed_at=None).exists())
    before = timezone.now()
    look()
    assert WebhookDelivery.objects.get().last_error == ""  # the receiver has not answered yet
    assert Lease.objects.filter(name=watch.DUTY, done_at__gte=before).exists()
    assert len(mail.messages) == 1
    receiver.is_over.set()
    wait_until(lambda: WebhookDelivery.objects.exclude(last_error="").exists())
