import json
import uuid

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from core.access import api_keys, tokens
from core.models import TokenFamily, Verb
from tests.api import ApiClient, assert_problem
from tests.factories import make_operator, make_user

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"


@pytest.fixture
def person():
    return make_user(username="ada", email="ada@example.com", password=PASSWORD)


def post(path, body, client=None, **headers):
    client = client or Client(enforce_csrf_checks=True)
    return client.post(path, json.dumps(body), content_type="application/json", headers=headers)


def sign_in(**changes):
    return post("/api/auth/login", {"email": "ada", "password": PASSWORD, **changes})


def me(access):
    return Client(headers={"Authorization": f"Bearer {access}"}).get("/api/me")


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/login/"])
def test_a_name_and_a_password_become_a_pair_of_tokens(person, path):
    response = post(path, {"email": "ada", "password": PASSWORD}, **{"User-Agent": "tests"})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    pair = response.json()
    assert pair["expires_in_seconds"] == 300
    told = me(pair["access"]).json()
    assert (told["username"], told["role"], told["credential"]) == ("ada", "user", "token")
    assert told["verbs"] == ["read", "submit"]
    assert told["team"]["name"] == "Default"
    family = TokenFamily.objects.get()
    assert (family.user_agent, family.address) == ("tests", "127.0.0.1")


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"email": "nobody"}, {"email": "ada@example.org"}])
def test_whatever_is_wrong_the_answer_is_the_same(person, changes):
    problem = assert_problem(sign_in(**changes), 401, "sign-in-refused")
    assert problem["detail"] == "The name or the password is wrong"
    assert not TokenFamily.objects.exists()


def test_who_is_inactive_signs_in_nowhere(person):
    person.is_active = False
    person.save()
    assert_problem(sign_in(), 401, "sign-in-refused")


def test_a_session_needs_the_csrf_token(person):
    client = Client(enforce_csrf_checks=True)
    assert_problem(
        post("/api/auth/login", {"email": "ada", "password": PASSWORD, "session": True}, client), 403, "csrf-failed"
    )
    assert not Session.objects.exists()
    token = client.get("/api/auth/csrf").json()["csrf_token"]
    body = {"email": "ada", "password": PASSWORD, "session": True}
    assert post("/api/auth/login", body, client, **{"X-CSRFToken": token}).status_code == 204
    assert client.get("/api/me").json()["credential"] == "session"
    assert not TokenFamily.objects.exists()

    token = client.get("/api/auth/csrf").json()["csrf_token"]
    assert post("/api/auth/logout", {}, client, **{"X-CSRFToken": token}).status_code == 204
    assert client.get("/api/me").status_code == 401


def test_a_pair_is_refreshed_once(person):
    pair = sign_in().json()
    following = post("/api/auth/refresh", {"refresh": pair["refresh"]})
    assert following.status_code == 200
    assert me(following.json()["access"]).status_code == 200
    assert_problem(post("/api/auth/refresh", {"refresh": pair["refresh"]}), 401, "token-refused")
    assert_problem(me(following.json()["access"]), 401, "not-authenticated")


def test_a_sign_out_ends_all_tokens_of_the_sign_in_and_no_other(person):
    pair, other = sign_in().json(), sign_in().json()
    assert post("/api/auth/logout", {"refresh": pair["refresh"]}).status_code == 204
    assert_problem(me(pair["access"]), 401, "not-authenticated")
    assert_problem(post("/api/auth/refresh", {"refresh": pair["refresh"]}), 401, "token-refused")
    assert me(other["access"]).status_code == 200


def test_a_sign_out_of_nothing_is_refused():
    assert_problem(post("/api/auth/logout", {}), 422, "invalid-input")


def test_a_token_reads_and_submits_as_its_person_may(person):
    access = sign_in().json()["access"]
    client = Client(headers={"Authorization": f"Bearer {access}"})
    assert client.get("/api/v1/tasks/").status_code == 200
    assert_problem(client.get("/api/v1/nodes/"), 403, "not-permitted")


@pytest.mark.parametrize("body", [{}, {"email": "ada"}, {"email": 5, "password": "x"}, {"email": "a", "x": 1}])
def test_sign_ins_of_the_wrong_shape_name_their_fields(body):
    assert_problem(post("/api/auth/login", body), 422, "invalid-input")


# Keys ----------------------------------------------------------------------------------------------------------------

KEYS = "/api/v1/keys/"


@pytest.fixture
def browser(person):
    client = Client()
    client.force_login(person)
    return client


def test_a_person_makes_a_key_sees_it_once_and_revokes_it(browser, person):
    body = {"name": "reports", "verbs": ["read"], "agent_names": ["helper"]}
    made = post(KEYS, body, browser)
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    text = made.json()["text"]
    key = api_keys.verify(text)
    assert (key.user, key.name, key.verbs, key.agent_names) == (person, "reports", ["read"], ["helper"])
    listed = browser.get(KEYS)
    assert text not in listed.text
    assert [item["id"] for item in listed.json()["results"]] == [str(key.pk)]

    assert post(f"{KEYS}{key.pk}/revoke/", {}, browser).json()["revoked_at"]
    assert api_keys.verify(text) is None


def test_a_rotated_key_has_a_successor(browser, person):
    key, text = api_keys.issue(person, "reports", api_keys.Scope(verbs=[Verb.READ]))
    made = post(f"{KEYS}{key.pk}/rotate/", {"overlap_hours": 0}, browser)
    assert made.status_code == 201
    assert made.json()["verbs"] == ["read"]
    api_keys.forget()
    assert api_keys.verify(text) is None
    assert api_keys.verify(made.json()["text"])


def test_keys_are_nobody_elses(browser):
    key, _ = api_keys.issue(make_user())
    for path in (f"{KEYS}{key.pk}/", f"{KEYS}{uuid.uuid4()}/"):
        assert_problem(browser.get(path), 404, "not-found")
    for action in ("revoke", "rotate"):
        assert_problem(post(f"{KEYS}{key.pk}/{action}/", {}, browser), 404, "not-found")
    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_key_makes_no_keys_and_a_token_does(person):
    assert_problem(ApiClient(person).post(KEYS, {}), 403, "not-permitted")
    access = tokens.begin(person).access
    assert (
        Client(headers={"Authorization": f"Bearer {access}"}).post(KEYS, "{}", "application/json").status_code == 201
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verbs": ["rule"]}, "verbs.0"),
        ({"agent_names": "helper"}, "agent_names"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"user": "x"}, "user"),
        ({"secret_hash": "x"}, "secret_hash"),
    ],
)
def test_keys_of_the_wrong_shape_are_not_made(browser, body, field):
    problem = assert_problem(post(KEYS, body, browser), 422, "invalid-input")
    assert list(problem["errors"]) == [field]
    assert browser.get(KEYS).json()["results"] == []


def test_a_metrics_key_reads_metrics_and_nothing_else():
    _, text = api_keys.issue(make_operator(), scope=api_keys.Scope(verbs=[Verb.METRICS]))
    client = Client(headers={"Authorization": f"Bearer {text}"})
    assert client.get("/metrics").status_code == 200
    assert_problem(client.get("/api/v1/tasks/"), 403, "not-permitted")


def test_a_password_is_guessed_so_often_and_no_more(person, settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 3
    assert [sign_in().status_code for _ in range(5)] == [200] * 5
    assert [sign_in(password="wrong").status_code for _ in range(4)] == [401, 401, 401, 429]
    response = sign_in()
    assert_problem(response, 429, "too-many-attempts")
    assert 0 < int(response["Retry-After"]) <= 300
