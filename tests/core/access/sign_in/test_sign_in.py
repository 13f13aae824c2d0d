import pytest
from django.test import Client

from core.models import User
from tests.factories import make_administrator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"


def sign_in(client, login, password=PASSWORD, path="/login"):
    return client.post(path, {"login": login, "password": password})


def who(client):
    key = client.session.get("_auth_user_id")
    return User.objects.get(pk=key).username if key else None


@pytest.mark.parametrize("path", ["/login", "/login/"])
@pytest.mark.parametrize("login", ["ada", "ada@example.com", "ADA@Example.com"])
def test_people_sign_in_with_their_name_or_email_address(client, login, path):
    make_user(username="ada", email="ada@example.com", password=PASSWORD)
    assert sign_in(client, login, path=path)["Location"] == "/dashboard"
    assert who(client) == "ada"


def test_operators_come_to_the_console_and_everybody_where_they_wanted_to_go(client):
    make_administrator(username="op", password=PASSWORD)
    assert sign_in(client, "op")["Location"] == "/admin/"
    client.logout()
    wanted = client.post("/login", {"login": "op", "password": PASSWORD, "next": "/admin/core/user/"})
    assert wanted["Location"] == "/admin/core/user/"


def test_nobody_is_led_to_another_site(client):
    make_user(username="ada", password=PASSWORD)
    response = client.post("/login", {"login": "ada", "password": PASSWORD, "next": "https://evil.example/"})
    assert response["Location"] == "/dashboard"


def test_who_is_switched_off_learns_it_only_with_the_right_password(client):
    make_user(username="gone", password=PASSWORD, is_active=False)
    assert "do not belong together" in sign_in(client, "gone", "wrong").text
    assert sign_in(client, "gone")["Location"] == "/account/inactive/"
    assert who(client) is None


def test_a_user_name_that_looks_like_an_address_shadows_nobody(client):
    make_user(username="ada", email="ada@example.com", password=PASSWORD)
    make_user(username="ada@example.com", password="another long secret")
    sign_in(client, "ada@example.com")
    assert who(client) == "ada"
    client.logout()
    sign_in(client, "ada@example.com", "another long secret")
    assert who(client) is None


def test_after_some_wrong_passwords_even_the_right_one_is_refused_however_the_name_is_spelled(client, settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 2
    make_user(username="ada", email="ada@example.com", password=PASSWORD)
    sign_in(client, "ada", "wrong")
    sign_in(client, "ada@example.com", "wrong")
    for login in ("ada", "ada@example.com", "ADA@example.com"):
        assert "Too many attempts" in sign_in(client, login).text
    assert who(client) is None


def test_right_passwords_use_no_try_up(client, settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 2
    make_user(username="ada", password=PASSWORD)
    for _ in range(5):
        sign_in(client, "ada")
        assert who(client) == "ada"
        client.logout()


def test_nobody_signs_up_by_themselves(client):
    assert "invitation" in client.get("/account/sign-up/").text
    assert "invitation" in client.post("/account/sign-up/", {"username": "x", "password1": PASSWORD}).text
    assert not User.objects.exists()


@pytest.mark.parametrize("path", ["/logout", "/logout/", "/admin/logout/"])
def test_signing_out_takes_a_post(client, path):
    client.force_login(make_user())
    assert client.get(path).status_code == 200
    assert who(client)
    assert client.post(path).status_code == 302
    assert who(client) is None


def test_forms_need_the_csrf_token():
    client = Client(enforce_csrf_checks=True)
    make_user(username="ada", password=PASSWORD)
    assert sign_in(client, "ada").status_code == 403
    client.force_login(make_user())
    for path in ("/logout", "/account/devices/sign-out/", "/account/password/change/"):
        assert client.post(path).status_code == 403


def test_the_consoles_old_door_leads_to_the_one_door(client):
    response = client.get("/admin/login/?next=/admin/core/user/")
    assert response["Location"] == "/login?next=%2Fadmin%2Fcore%2Fuser%2F"
    assert client.get("/admin/login/?next=https://evil.example/")["Location"] == "/login?next=%2Fadmin%2F"
    client.force_login(make_administrator())
    assert client.get("/admin/login/?next=/admin/core/user/")["Location"] == "/admin/core/user/"
