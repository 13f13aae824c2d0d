"""What requests leave in the audit log: what was refused, and who asked."""

import json
from ipaddress import ip_network

import pytest
from django.test import Client

from core.access import api_keys, signing_keys
from core.audit import denials
from core.models import AuditEntry
from tests.api import ApiClient, counting_queries
from tests.factories import make_administrator, make_agent, make_api_key, make_session, make_staff, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

CANARY = "canary-of-the-coal-mine"


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    AuditEntry.objects.all()._raw_delete("default")


def the_denial() -> AuditEntry:
    denials.flush()
    return AuditEntry.objects.get(outcome="refused")


def entries() -> list[AuditEntry]:
    denials.flush()
    return list(AuditEntry.objects.order_by("id"))


def test_nobody_without_credentials_is_refused_unseen():
    Client(REMOTE_ADDR="192.0.2.7").get("/api/v1/agents/", headers={"X-Request-Id": "my-request"})

    entry = the_denial()
    assert (entry.action, entry.object_name, entry.actor_name) == ("access.denied", "/api/v1/agents/", "")
    assert (entry.address, entry.request_id, entry.credential) == ("192.0.2.7", "my-request", "")
    assert entry.detail == "GET answered with 401 not-authenticated"


def test_behind_a_proxy_the_clients_address_is_told(settings):
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    for peer in ("10.0.0.1", "192.0.2.7"):
        Client(REMOTE_ADDR=peer).get("/api/v1/agents/", headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.5"})
    assert {entry.address for entry in entries()} == {"203.0.113.5", "192.0.2.7"}


def test_the_public_part_of_a_wrong_key_is_told_and_its_secret_is_not():
    Client(headers={"Authorization": f"Bearer stz_0123456789ab_{CANARY}"}).get("/api/v1/agents/")
    assert the_denial().credential == "api-key stz_0123456789ab"


@pytest.mark.parametrize("header", [f"Bearer stz_{CANARY}_{CANARY}", f"Bearer {CANARY}", f"Basic {CANARY}", CANARY])
def test_nothing_of_other_credentials_is_told(header):
    Client(headers={"Authorization": header}).get("/api/v1/agents/")
    assert the_denial().credential == "token"
    assert CANARY not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_a_key_in_an_address_is_not_told():
    text = make_api_key(make_user())
    Client().get(f"/api/v1/tasks/{text}/")

    prefix, key_id, secret = text.split("_", 2)
    assert the_denial().object_name == f"/api/v1/tasks/{prefix}_{key_id}_***/"
    assert secret not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_who_may_not_do_something_is_told_by_name_and_key():
    user = make_user(username="ada")
    client = ApiClient(user)
    client.post("/api/v1/nodes/", {})

    entry = the_denial()
    assert (entry.actor_id, entry.actor_name) == (user.pk, "ada")
    assert entry.credential == f"api-key stz_{user.api_keys.get().key_id}"
    assert entry.detail == "POST answered with 403 not-permitted"


def test_a_refused_form_of_the_console_is_told():
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_administrator(username="op"))
    client.post("/admin/core/team/add/", {"name": "x"})

    entry = the_denial()
    assert (entry.object_name, entry.actor_name, entry.credential) == ("/admin/core/team/add/", "op", "session")


def test_a_console_page_without_permission_is_told():
    client = Client()
    client.force_login(make_staff())
    client.get("/admin/core/user/")
    assert the_denial().object_name == "/admin/core/user/"


def test_a_row_of_others_is_told_although_the_answer_does_not():
    session = make_session(make_user())
    stranger = ApiClient(make_user(username="stranger"))
    path = f"/api/v1/sessions/{session.pk}/"

    assert stranger.get(path).status_code == 404

    entry = the_denial()
    assert (entry.object_name, entry.actor_name) == (path, "stranger")
    assert "belongs to others" in entry.detail


def test_so_are_the_rows_below_it():
    session = make_session(make_user())
    assert ApiClient(make_user()).get(f"/api/v1/sessions/{session.pk}/messages/").status_code == 404
    assert the_denial().object_name.endswith("/messages/")


@pytest.mark.parametrize("key", ["00000000-0000-7000-8000-00000000dead", "nonsense", "%00"])
def test_what_is_not_there_is_no_denial(key):
    client = ApiClient(make_user())
    AuditEntry.objects.all()._raw_delete("default")
    for path in (f"/api/v1/sessions/{key}/", f"/api/v1/sessions/{key}/messages/", f"/api/v1/agents/{key}/versions/1/"):
        assert client.get(path).status_code == 404
    assert entries() == []


def test_a_version_that_is_not_there_of_an_agent_that_one_sees_is_no_denial():
    user = make_user()
    agent, client = make_agent(user), ApiClient(user)
    AuditEntry.objects.all()._raw_delete("default")
    assert client.get(f"/api/v1/agents/{agent.pk}/versions/99/").status_code == 404
    assert entries() == []


def test_reading_leaves_nothing_and_asks_no_more_than_before(django_assert_num_queries):
    user = make_user()
    client = ApiClient(user)
    client.get("/api/v1/agents/")
    AuditEntry.objects.all()._raw_delete("default")
    with django_assert_num_queries(counting_queries() + 1):
        assert client.get("/api/v1/agents/").status_code == 200
    assert entries() == []


# Signing in


def test_signing_in_and_out_is_told():
    make_administrator(username="op", password="right-password")
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.post("/login", {"login": "op", "password": "right-password"})
    client.post("/logout")

    told = [(entry.action, entry.actor_name, entry.object_name, entry.address) for entry in entries()]
    assert told == [(f"sign-{way}.succeeded", "op", "op", "192.0.2.7") for way in ("in", "out")]


def test_a_wrong_password_is_told_with_whom_it_was_tried_for():
    make_administrator(username="op", password="right-password")
    Client(REMOTE_ADDR="192.0.2.7").post("/login", {"login": "op", "password": CANARY})

    entry = the_denial()
    assert (entry.action, entry.object_name, entry.address) == ("sign-in.failed", "op", "192.0.2.7")
    assert CANARY not in json.dumps(list(AuditEntry.objects.values()), default=str)


@pytest.mark.parametrize("name", [CANARY, "\x00", ""])
def test_a_password_in_the_field_for_the_name_is_not_told(name):
    Client().post("/login", {"login": name, "password": "x"})
    denials.flush()
    assert CANARY not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_signing_in_by_tokens_and_out_is_told():
    make_user(username="ada", email="ada@example.org", password="right-password")
    client = Client()
    body = {"email": "ada", "password": "right-password"}
    pair = client.post("/api/auth/login/", body, content_type="application/json").json()
    refreshed = client.post("/api/auth/refresh/", {"refresh": pair["refresh"]}, content_type="application/json").json()
    client.post("/api/auth/logout/", {"refresh": refreshed["refresh"]}, content_type="application/json")

    begun, ended = entries()
    assert (begun.action, begun.actor_name, begun.object_name) == ("sign-in.succeeded", "ada", "ada")
    assert (ended.action, ended.object_name) == ("sign-out.succeeded", "ada")
    assert ended.detail.endswith("Signed out.")
    written = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert not any(token in written for token in (*pair.values(), *refreshed.values()) if isinstance(token, str))


def test_a_refresh_token_that_comes_twice_is_told():
    make_user(username="ada", email="ada@example.org", password="right-password")
    client = Client()
    body = {"email": "ada", "password": "right-password"}
    pair = client.post("/api/auth/login/", body, content_type="application/json").json()
    for _ in range(2):
        client.post("/api/auth/refresh/", {"refresh": pair["refresh"]}, content_type="application/json")

    told = [(entry.action, entry.outcome) for entry in entries()]
    assert told == [
        ("sign-in.succeeded", "succeeded"),
        ("sign-out.succeeded", "succeeded"),
        ("access.denied", "refused"),
    ]
    assert "used twice" in AuditEntry.objects.get(action="sign-out.succeeded").detail


def test_a_wrong_password_for_tokens_is_told_once_with_whom_it_was_tried_for():
    make_user(username="ada", email="ada@example.org", password="right-password")
    body = {"email": "ada@example.org", "password": CANARY}
    for _ in range(2):
        Client().post("/api/auth/login/", body, content_type="application/json")

    entry = the_denial()
    assert (entry.action, entry.object_name, entry.count) == ("sign-in.failed", "ada", 2)


def test_a_try_too_many_is_told_although_no_password_was_looked_at(settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 1
    body = {"email": "ada@example.org", "password": CANARY}
    for _ in range(2):
        Client().post("/api/auth/login/", body, content_type="application/json")

    assert [(entry.action, entry.detail) for entry in entries()] == [
        ("sign-in.failed", ""),
        ("access.denied", "POST answered with 429 too-many-attempts"),
    ]


# Keys


def test_keys_by_the_api_are_told_once_and_without_their_text():
    user = make_user(username="ada")
    client = Client()
    client.force_login(user)
    made = client.post("/api/v1/keys/", {"name": "ci"}, content_type="application/json").json()
    client.post(f"/api/v1/keys/{made['id']}/rotate/", {}, content_type="application/json")
    client.post(f"/api/v1/keys/{made['id']}/revoke/", {}, content_type="application/json")

    told = [entry.action for entry in entries()]
    assert told == ["sign-in.succeeded", "api-key.issued", "api-key.issued", "api-key.rotated", "api-key.revoked"]
    assert made["text"].split("_", 2)[2] not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_a_change_of_ones_own_profile_is_told():
    client = Client()
    client.force_login(make_user(username="ada"))
    client.post("/settings", {"first_name": "Ada", "last_name": "", "email": "ada@example.org"})

    entry = AuditEntry.objects.get(action="user.changed")
    assert (entry.actor_name, entry.object_name) == ("ada", "ada")
    assert entry.changes == {"first_name": ["", "Ada"], "email": ["", "ada@example.org"]}


def test_changing_the_key_of_tokens_is_told():
    signing_keys.current()
    signing_keys.rotate()
    signing_keys.drop_old()
    assert [entry.action for entry in entries()] == ["signing-key.added", "signing-key.deleted"]


def test_issuing_and_revoking_keys_is_told():
    key, _ = api_keys.issue(make_user(), "ci")
    api_keys.revoke(type(key).objects.all())
    assert api_keys.revoke(type(key).objects.all()) == 0
    assert [(entry.action, entry.object_id) for entry in entries()] == [
        ("api-key.issued", str(key.pk)),
        ("api-key.revoked", str(key.pk)),
    ]
