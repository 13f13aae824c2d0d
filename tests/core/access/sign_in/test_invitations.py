import re
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.access.sign_in import invitations
from core.models import Invitation, User
from tests.factories import make_administrator, make_operator, make_user
from tests.open_transactions import is_any_open
from tests.services.server import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ACCOUNT = {"username": "grace", "password1": "a long enough secret", "password2": "a long enough secret"}


def invite(**fields):
    fields = {"email": "grace@example.com", "role": "user", "by": make_administrator(), **fields}
    return invitations.invite(**fields)


def open_link(client, token):
    return client.get(reverse("account_invitation_link", args=[token]))


def test_a_link_makes_one_account_and_signs_its_person_in(client):
    invitation, token = invite()
    assert open_link(client, token)["Location"] == "/account/invitation/"
    assert token not in client.get("/account/invitation/").text
    assert client.post("/account/invitation/", ACCOUNT)["Location"] == "/dashboard"
    user = User.objects.get(username="grace")
    assert (user.email, user.is_staff) == ("grace@example.com", False)
    assert client.session["_auth_user_id"] == str(user.pk)
    invitation.refresh_from_db()
    assert (invitation.state, invitation.used_by) == ("accepted", user)
    assert open_link(Client(), token).status_code == 410


def test_an_operators_invitation_makes_an_operator(client):
    _, token = invite(role="operator")
    open_link(client, token)
    assert client.post("/account/invitation/", ACCOUNT)["Location"] == "/admin/"


def test_only_a_hash_of_the_token_is_stored():
    invitation, token = invite()
    assert token not in str(Invitation.objects.values().get())
    assert invitations.find(token) == invitation


@pytest.mark.parametrize("change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_a_revoked_or_expired_invitation_makes_nothing_even_if_it_was_opened_before(client, change):
    invitation, token = invite()
    open_link(client, token)
    Invitation.objects.filter(pk=invitation.pk).update(**change)
    assert client.post("/account/invitation/", ACCOUNT).status_code == 410
    assert open_link(client, token).status_code == 410
    assert not User.objects.filter(username="grace").exists()


def test_of_two_who_accept_at_once_one_gets_the_account():
    invitation, _ = invite(email="")
    invitations.make_account(invitation, username="first", password="x")
    with pytest.raises(invitations.InvitationGone):
        invitations.make_account(invitation, username="second", password="x")
    assert not User.objects.filter(username="second").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"username": "TAKEN"}, "Somebody else has this name"),
        ({"username": "no spaces"}, "Enter a valid username"),
        ({"password2": "something else"}, "differ"),
        ({"password1": "short", "password2": "short"}, "too short"),
        ({"password1": "grace@example.com", "password2": "grace@example.com"}, "too similar"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_made(client, change, text):
    make_user(username="taken")
    _, token = invite()
    open_link(client, token)
    assert text in client.post("/account/invitation/", {**ACCOUNT, **change}).text
    assert not User.objects.filter(username="grace").exists()
    assert Invitation.objects.get().state == "open"


def test_an_address_that_got_an_account_meanwhile_is_told(client):
    _, token = invite()
    open_link(client, token)
    make_user(email="Grace@example.com")
    assert "Somebody else has" in client.post("/account/invitation/", ACCOUNT).text


def test_who_is_signed_in_makes_no_second_account(client):
    _, token = invite()
    client.force_login(make_user(username="ada"))
    open_link(client, token)
    assert "signed in as" in client.post("/account/invitation/", ACCOUNT).text
    assert not User.objects.filter(username="grace").exists()


def test_a_guessed_token_is_gone():
    assert open_link(Client(), "guessed").status_code == 410
    assert Client().get("/account/invitation/").status_code == 410


def test_no_two_people_share_an_email_address_whatever_its_case():
    make_user(email="ada@example.com")
    make_user(email="")
    make_user(email="")
    with pytest.raises(IntegrityError):
        make_user(email="ADA@example.com")


# The console's page ----------------------------------------------------------------------------------------------


@pytest.fixture
def console(client):
    client.force_login(make_administrator(username="op"))
    return client


def link_in(page):
    return re.search(r"http://testserver(/account/invitation/[\w-]+/)", page.text)[1]


def test_the_link_is_shown_once_where_no_mail_is_configured(console, mailoutbox):
    page = console.post("/admin/core/invitation/add/", {"email": "Grace@Example.com", "role": "viewer"})
    assert Client().get(link_in(page))["Location"] == "/account/invitation/"
    invitation = Invitation.objects.get()
    assert (invitation.email, invitation.role, invitation.invited_by.username) == ("grace@example.com", "viewer", "op")
    assert mailoutbox == []
    later = console.get(f"/admin/core/invitation/{invitation.pk}/change/")
    assert later.status_code == 200
    assert link_in(page) not in later.text


@pytest.mark.django_db(transaction=True)
def test_the_link_is_mailed_where_mail_is_configured(console, mailoutbox, settings):
    settings.EMAIL_IS_CONFIGURED = True
    page = console.post("/admin/core/invitation/add/", {"email": "grace@example.com", "role": "user"})
    assert "/account/invitation/" not in page.text
    assert mailoutbox[0].to == ["grace@example.com"]
    assert re.search(r"/account/invitation/[\w-]{40,}/", mailoutbox[0].body)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_link_is_mailed(console, settings, monkeypatch):
    settings.EMAIL_IS_CONFIGURED = True
    seen: list[bool] = []
    monkeypatch.setattr("core.admin.invitations.send_mail", lambda *_: seen.append(is_any_open()))
    page = console.post("/admin/core/invitation/add/", {"email": "grace@example.com", "role": "user"})
    assert "on its way" in page.text
    assert seen == [False]


@pytest.mark.django_db(transaction=True)
def test_a_link_that_cannot_be_mailed_is_shown(console, settings):
    settings.EMAIL_IS_CONFIGURED = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    page = console.post("/admin/core/invitation/add/", {"email": "grace@example.com", "role": "user"})
    assert "The mail could not be sent" in page.text
    assert Client().get(link_in(page))["Location"] == "/account/invitation/"


def test_invitations_are_revoked_and_their_states_told(console):
    make_user(username="x")
    (first, _), (second, token) = invite(email="a@example.com"), invite(email="b@example.com")
    Invitation.objects.filter(pk=first.pk).update(expires_at=timezone.now() - timedelta(days=1))
    rows = {"action": "revoke_selected", "_selected_action": [str(first.pk), str(second.pk)]}
    console.post("/admin/core/invitation/", rows)
    page = console.get("/admin/core/invitation/").text
    assert "Revoked 1 invitation." in page
    assert "Expired" in page
    assert open_link(Client(), token).status_code == 410


def test_only_an_administrator_invites_operators(client):
    client.force_login(make_operator())
    assert 'value="operator"' not in client.get("/admin/core/invitation/add/").text
    client.post("/admin/core/invitation/add/", {"email": "", "role": "operator"})
    assert not Invitation.objects.exists()
    client.post("/admin/core/invitation/add/", {"email": "", "role": "user"})
    assert Invitation.objects.get().role == "user"


def test_an_empty_list_says_what_an_invitation_is(console):
    assert "An invitation is a link" in console.get("/admin/core/invitation/").text


def test_nobody_is_invited_who_has_an_account(console):
    make_user(email="ada@example.com")
    page = console.post("/admin/core/invitation/add/", {"email": "ADA@example.com", "role": "user"})
    assert "has an account already" in page.text
