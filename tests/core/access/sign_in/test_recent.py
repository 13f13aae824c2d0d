"""Dangerous things need a recent sign-in."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from core.models import ApiKey, User
from tests.factories import make_administrator, make_api_key, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"
LATER = timedelta(minutes=16)
PERSON = {
    "username": "new",
    "role": "user",
    "team": "00000000-0000-7000-8000-000000000001",
    "password1": "x9-long-enough-y",
    "password2": "x9-long-enough-y",
}


@pytest.fixture
def operator():
    return make_administrator(username="op", password=PASSWORD)


@pytest.fixture
def console(client, operator):
    client.post("/login", {"login": "op", "password": PASSWORD})
    return client


def later():
    return time_machine.travel(timezone.now() + LATER, tick=True)


def test_a_fresh_sign_in_suffices(console):
    assert console.post("/admin/core/user/add/", PERSON).status_code == 302
    assert User.objects.filter(username="new").exists()


@pytest.mark.parametrize("path", ["/admin/core/user/add/", "/admin/core/apikey/add/", "/admin/core/invitation/add/"])
def test_an_old_one_is_asked_to_confirm_and_comes_back(console, path):
    with later():
        assert console.get(path)["Location"] == f"/account/confirm/?next={path.replace('/', '%2F')}"
        confirmed = console.post("/account/confirm/", {"password": PASSWORD, "next": path})
        assert confirmed["Location"] == path
        assert console.get(path).status_code == 200


def test_a_wrong_password_confirms_nothing(console):
    with later():
        assert "not your password" in console.post("/account/confirm/", {"password": "wrong"}).text
        assert console.get("/admin/core/user/add/").status_code == 302


def test_nothing_happens_before_the_confirmation(console, operator):
    make_api_key(operator)
    key, person = ApiKey.objects.get(), make_user(password=PASSWORD)
    attempts = {
        "/admin/core/user/add/": PERSON,
        f"/admin/core/user/{person.pk}/delete/": {"post": "yes"},
        f"/admin/core/user/{person.pk}/password/": {"password1": "new-secret-9x", "password2": "new-secret-9x"},
        f"/admin/core/apikey/{key.pk}/revoke/": {},
        "/admin/core/apikey/": {"action": "revoke_selected", "_selected_action": [str(key.pk)]},
        "/admin/core/user/": {"action": "delete_selected", "_selected_action": [str(person.pk)], "post": "yes"},
        "/account/password/change/": {"oldpassword": PASSWORD, "password1": "n-9x-secret", "password2": "n-9x-secret"},
    }
    with later():
        for path, data in attempts.items():
            assert console.post(path, data)["Location"].startswith("/account/confirm/?next="), path
    key.refresh_from_db()
    person.refresh_from_db()
    assert key.revoked_at is None
    assert person.check_password(PASSWORD)
    assert User.objects.count() == 2


def test_an_action_cannot_hide_behind_another_one(console, operator):
    make_api_key(operator)
    form = {"action": ["revoke_selected", ""], "index": "0", "_selected_action": [str(ApiKey.objects.get().pk)]}
    with later():
        assert console.post("/admin/core/apikey/", form)["Location"].startswith("/account/confirm/?next=")
    assert ApiKey.objects.get().revoked_at is None


def test_a_pressed_button_leads_back_to_its_objects_page(console, operator):
    make_api_key(operator)
    key = ApiKey.objects.get()
    with later():
        response = console.post(f"/admin/core/apikey/{key.pk}/revoke/")
    assert response["Location"].endswith(f"apikey%2F{key.pk}%2Fchange%2F")


def test_what_is_harmless_is_not_asked_for(console):
    with later():
        for path in ("/admin/", "/admin/core/user/", "/account/"):
            assert console.get(path).status_code == 200


def test_passwords_sent_before_the_confirmation_are_kept_nowhere(console):
    with later():
        console.post("/admin/core/user/add/", PERSON)
    assert PERSON["password1"] not in str(dict(console.session))


def test_people_with_no_way_to_confirm_are_asked_to_sign_in_again(client):
    client.force_login(make_administrator())  # neither password nor second factor
    with later():
        assert client.get("/admin/core/user/add/")["Location"].startswith("/logout")
