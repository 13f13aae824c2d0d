"""Links for a new password: for whoever lost the old one, and of no use to anybody else."""

import re
import threading
from smtplib import SMTPServerDisconnected

import pytest
from django.core.mail import EmailMessage

from tests.factories import make_user

# The links are sent by a thread of its own.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

PASSWORD = "a long enough secret"
NEW = "quite another secret"
FORM = "/account/password/reset/"
SENT = "/account/password/reset/sent/"


@pytest.fixture(autouse=True)
def with_mail(settings):
    settings.EMAIL_IS_CONFIGURED = True


@pytest.fixture
def ada():
    return make_user(username="ada", email="ada@example.com", password=PASSWORD)


def ask(client, name="ada"):
    return client.post(FORM, {"email": f"{name}@example.com"})


def sign_in(client, password):
    client.post("/login", {"login": "ada", "password": password})
    return "_auth_user_id" in client.session


def test_it_goes_only_where_mail_is_configured(client, settings, ada):
    settings.EMAIL_IS_CONFIGURED = False
    assert client.get(FORM).status_code == ask(client).status_code == 404
    assert "Forgot" not in client.get("/login").text
    settings.EMAIL_IS_CONFIGURED = True
    assert "Forgot" in client.get("/login").text


def test_the_link_lets_its_owner_choose_a_new_password(client, ada, mailoutbox, wait_until):
    assert ask(client, "nobody")["Location"] == ask(client)["Location"] == SENT
    wait_until(lambda: mailoutbox)
    assert [mail.to for mail in mailoutbox] == [["ada@example.com"]]
    link = re.search(r"http://testserver(\S+)", mailoutbox[0].body)[1]
    form = client.get(link, follow=True)
    client.post(form.redirect_chain[-1][0], {"password1": NEW, "password2": NEW})
    assert not sign_in(client, PASSWORD)
    assert sign_in(client, NEW)


def test_none_goes_to_an_address_that_somebody_had_before(client, ada, mailoutbox, wait_until):
    ask(client)
    wait_until(lambda: mailoutbox)
    ada.email = "new@example.com"
    ada.save()
    ask(client)
    ask(client, "new")  # they are sent one after the other
    wait_until(lambda: len(mailoutbox) == 2)
    assert [mail.to for mail in mailoutbox] == [["ada@example.com"], ["new@example.com"]]


def test_nobody_waits_for_the_mail_server(client, ada, monkeypatch):
    """Else the time would tell who is known."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def send(*_: object, **__: object) -> None:
        is_asked.set()
        may_answer.wait(20)

    monkeypatch.setattr(EmailMessage, "send", send)
    try:
        assert ask(client)["Location"] == SENT
        assert is_asked.wait(20)
    finally:
        may_answer.set()


def test_a_mail_server_that_fails_is_the_operators_to_know(client, ada, monkeypatch, caplog, wait_until):
    def send(*_: object, **__: object) -> None:
        raise SMTPServerDisconnected("gone")

    monkeypatch.setattr(EmailMessage, "send", send)
    assert ask(client)["Location"] == SENT
    wait_until(lambda: "A link for a new password was not sent." in caplog.text)


def test_nobodys_mailbox_is_filled(client, ada, settings, mailoutbox, wait_until):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 2
    for name in ("ada", "nobody"):
        for _ in range(2):
            assert ask(client, name)["Location"] == SENT
        assert "Too many attempts" in ask(client, name).text
    wait_until(lambda: len(mailoutbox) == 2)
    assert sign_in(client, PASSWORD)  # which is counted by itself
