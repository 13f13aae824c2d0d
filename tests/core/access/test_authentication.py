import pytest
from django.test import Client

from tests.api import ApiClient, assert_problem
from tests.factories import make_user

pytestmark = pytest.mark.django_db

PATH = "/api/v1/sessions/"


def test_nobody_enters_without_credentials():
    response = Client().get(PATH)
    assert_problem(response, 401, "not-authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer stz_0123456789ab_wrong", "Bearer", "bearer x", "Bearer \x00"])
def test_a_wrong_key_is_refused(header):
    response = Client(headers={"Authorization": header}).get(PATH)
    assert_problem(response, 401, "not-authenticated")


def test_another_scheme_counts_as_no_credentials():
    response = Client(headers={"Authorization": "Basic b3A6cHc="}).get(PATH)
    assert_problem(response, 401, "not-authenticated")


def test_a_key_lets_a_program_in():
    assert ApiClient(make_user()).get(PATH).status_code == 200


def test_a_console_sign_in_lets_a_person_in():
    client = Client()
    client.force_login(make_user())
    assert client.get(PATH).status_code == 200


def test_a_wrong_key_is_not_saved_by_a_sign_in():
    client = Client(headers={"Authorization": "Bearer stz_a_b"})
    client.force_login(make_user())
    assert_problem(client.get(PATH), 401, "not-authenticated")


def test_a_signed_in_person_needs_the_csrf_token_to_change_something():
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user())
    response = client.post("/api/v1/chat/", '{"message": "hi"}', content_type="application/json")
    assert_problem(response, 403, "csrf-failed")


def test_a_form_from_another_site_changes_nothing():
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user())
    response = client.post("/api/v1/chat/", '{"message": "hi"}', content_type="application/x-www-form-urlencoded")
    assert_problem(response, 403, "csrf-failed")


def test_the_csrf_token_lets_a_change_through():
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user())
    client.cookies["sutazai_csrf"] = "a" * 32
    response = client.post(
        "/api/v1/chat/", '{"message": ""}', content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert_problem(response, 404, "agent-not-found")


def test_a_key_needs_no_csrf_token():
    client = ApiClient(make_user())
    client._client.handler.enforce_csrf_checks = True
    assert_problem(client.post("/api/v1/chat/", {"message": "hi"}), 404, "agent-not-found")
