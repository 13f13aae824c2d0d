"""Every page before and about the own account."""

import re

import pytest
from django.test import Client

from core.access.sign_in import invitations
from core.models import User
from tests.factories import make_administrator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"
OWN = [
    "/account/",
    "/account/password/change/",
    "/account/confirm/",
    "/account/second-factor/",
    "/account/second-factor/totp/activate/",
    "/account/second-factor/webauthn/",
    "/account/second-factor/webauthn/add/",
    "/account/providers/",
]
OPEN = {
    "/login": 200,
    "/account/sign-up/": 200,
    "/account/inactive/": 200,
    "/account/providers/cancelled/": 200,
    "/account/providers/error/": 401,
    "/account/invitation/": 410,
}


@pytest.fixture
def person(client):
    make_user(username="ada", password=PASSWORD)
    client.post("/login", {"login": "ada", "password": PASSWORD})
    return client


def assert_fit_for_a_strict_policy(page, status=200):
    """No script or style stands in the page itself, and nothing comes from elsewhere."""
    assert page.status_code == status
    scripts = re.findall(r"<script([^>]*)>", page.text)
    assert scripts
    assert all("src=" in script or 'type="application/json"' in script for script in scripts)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|(src|href)=.?https?:", page.text)


@pytest.mark.parametrize("path", OWN)
def test_strangers_are_led_to_the_sign_in_page(client, path):
    response = client.get(path)
    assert response.status_code == 302
    assert re.match(r"/login\?next=(/|%2F)account", response["Location"])


@pytest.mark.parametrize("path", OWN)
def test_pages_about_the_own_account_open_and_hold_no_inline_script(person, path):
    assert_fit_for_a_strict_policy(person.get(path))


@pytest.mark.parametrize("path", OPEN)
def test_pages_before_the_sign_in_hold_no_inline_script(client, path):
    assert_fit_for_a_strict_policy(client.get(path), OPEN[path])


def test_the_invitations_page_holds_no_inline_script(client):
    _, token = invitations.invite(email="", role="user", by=make_administrator())
    assert_fit_for_a_strict_policy(client.get(f"/account/invitation/{token}/", follow=True))


def test_nothing_of_the_account_is_kept_by_a_cache(person):
    assert "no-store" in person.get("/account/")["Cache-Control"]
    assert "no-store" in Client().get("/login")["Cache-Control"]


def test_what_needs_a_form_takes_no_get(person):
    assert person.get("/account/devices/sign-out/").status_code == 405


def test_a_switched_off_account_is_signed_out_at_once(person):
    User.objects.update(is_active=False)
    assert person.get("/account/").status_code == 302


def test_the_recovery_codes_are_shown_after_a_recent_sign_in_only(person):
    session = person.session
    session["signed_in_at"] = 0
    session.save()
    for path in ("recovery-codes/", "recovery-codes/download/", "totp/activate/", "webauthn/add/"):
        response = person.get(f"/account/second-factor/{path}")
        assert response["Location"].startswith("/account/confirm/?next=%2Faccount"), path
