"""Emails, sent to a real mail server."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import requests
import time_machine
from django.db import connection
from django.utils import timezone

from core.models import MaintenanceRun, Notification
from core.notifications import News, emails, inbox, notify
from core.ops import maintenance
from core.tasks import send_notification_email
from tests.factories import make_user
from tests.mail_server import MailServer
from tests.program import PATIENCE_SECONDS, Program

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def person():
    return make_user(username="ada", email="ada@example.com")


def due_email(event, person, *, title="The kettle boiled", body="At noon."):
    """A notification whose email is due."""
    notify(replace(event, email=True), [News(person.pk, title, "/dashboard", body)], timezone.now())
    return Notification.objects.latest("pk")


def send(notification):
    send_notification_email(str(notification.pk))
    notification.refresh_from_db()


def test_an_email_says_what_the_notification_says_and_where_to_look(event, person, mail):
    notification = due_email(event, person)
    send(notification)
    (message,) = mail.messages
    assert (message["To"], message["Subject"]) == ("ada@example.com", "SutazAI: The kettle boiled")
    lines = [line for line in message.get_content().splitlines() if line]
    assert lines == [
        "The kettle boiled",
        "At noon.",
        "https://sutazai.example/dashboard",
        "You get this because you want emails about: Kettle. Choose others here:",
        "https://sutazai.example/settings",
    ]
    assert notification.email_due_at is None
    assert notification.emailed_at is not None


def test_a_message_that_comes_again_sends_nothing_again(event, person, mail):
    notification = due_email(event, person)
    for _ in range(3):
        send(notification)
    assert len(mail.messages) == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_sends(event, person, mail):
    notification = due_email(event, person)

    def work(_):
        try:
            return emails.send(notification.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 1
    assert len(mail.messages) == 1


def test_what_is_not_there_or_has_no_email_sends_nothing(event, person, mail):
    send_notification_email(str(uuid.uuid4()))
    notify(event, [News(person.pk, "Only here", "/dashboard")], timezone.now())
    send(inbox.of(person).get())
    assert mail.tries == 0


def test_a_refused_email_is_tried_again_later_and_given_up_in_the_end(event, person, mail, caplog):
    mail.refusals = 100
    notification = due_email(event, person)
    send(notification)
    send(notification)  # it is not due yet
    assert mail.tries == 1
    moment = timezone.now()
    for _ in range(10):
        moment += timedelta(hours=2)
        with time_machine.travel(moment, tick=True):
            run = maintenance.run("send_due_emails", trigger=MaintenanceRun.Trigger.COMMAND)
            assert run.status == "succeeded", run.error
    notification.refresh_from_db()
    assert mail.tries == notification.email_attempts == emails.MAX_TRIES
    assert (notification.email_due_at, notification.emailed_at) == (None, None)
    assert "given up" in caplog.text


def test_the_job_sends_what_no_message_came_for(event, person, mail):
    first, second = due_email(event, person), due_email(event, person)
    mail.refusals = 1
    assert maintenance.run("send_due_emails", trigger=MaintenanceRun.Trigger.COMMAND).summary == "Sent 1 of 2 emails."
    first.refresh_from_db()
    second.refresh_from_db()
    assert {first.emailed_at is None, second.emailed_at is None} == {True, False}


def test_an_email_that_cannot_be_written_keeps_no_other_from_being_sent(event, person, mail, caplog):
    odd = make_user(email="ada@exämple..com")  # as an identity provider may tell it
    broken, whole = due_email(event, odd), due_email(event, person)
    assert maintenance.run("send_due_emails", trigger=MaintenanceRun.Trigger.COMMAND).summary == "Sent 1 of 2 emails."
    broken.refresh_from_db()
    whole.refresh_from_db()
    assert (broken.emailed_at, broken.email_attempts, broken.email_due_at > timezone.now()) == (None, 1, True)
    assert whole.emailed_at is not None
    assert f"The email of notification {broken.pk} was not sent" in caplog.text


def test_a_mail_server_that_is_away_is_no_error_of_the_worker(event, person, mail, settings):
    settings.EMAIL_PORT = 1
    notification = due_email(event, person)
    send(notification)
    assert notification.email_due_at > timezone.now()


@pytest.mark.parametrize("change", [{"is_active": False}, {"email": ""}])
def test_who_was_switched_off_meanwhile_gets_nothing(event, person, mail, change):
    notification = due_email(event, person)
    for name, value in change.items():
        setattr(person, name, value)
    person.save()
    send(notification)
    assert mail.tries == 0
    assert notification.email_due_at is None


def test_a_title_cannot_add_headers(event, person, mail):
    send(due_email(event, person, title="Hello\r\nBcc: all@example.com"))
    (message,) = mail.messages
    assert message["Subject"] == "SutazAI: Hello Bcc: all@example.com"
    assert message["Bcc"] is None


@pytest.fixture
def program(tmp_path) -> Iterator[tuple[Program, MailServer]]:
    with MailServer() as server:
        email = {
            "SUTAZAI_EMAIL_URL": f"smtp://127.0.0.1:{server.port}",
            "SUTAZAI_OPERATOR_PASSWORD": "a long password",
        }
        with Program(tmp_path, **email) as running:
            yield running, server


def test_a_new_device_is_told_by_email_by_the_running_program(program, wait_until):
    """The whole way: sign-in, commit, message, worker, mail server."""
    running, server = program
    running.manage("shell", "-c", "from core.models import User; User.objects.update(email='op@example.com')")

    def sign_in(agent: str) -> None:
        who = {"email": "operator", "password": "a long password"}
        response = requests.post(
            f"{running.url}/api/auth/login/", json=who, headers={"User-Agent": agent}, timeout=PATIENCE_SECONDS
        )
        assert response.status_code == 200

    sign_in("first app")
    sign_in("second app")
    wait_until(lambda: server.messages)
    (message,) = server.messages
    assert (message["To"], message["Subject"]) == ("op@example.com", "SutazAI: New sign-in to your account")
    assert f"http://localhost:{running.port}/settings" in message.get_content()
