import pytest

from agents.models import Agent, AgentTask
from core.models import IdempotencyRecord
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_builtin_node, make_operator

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/agents/"
BODY = {"name": "clerk", "kind": "chat"}


@pytest.fixture
def client():
    return ApiClient(make_operator())


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x07b", "schlüssel", "\x00"])
@pytest.mark.parametrize("path", [PATH, "/api/v1/chat/", "/api/v1/tasks/", "/api/v1/sessions/"])
def test_a_key_that_cannot_be_one_is_refused(client, path, key):
    make_builtin_node()
    agent = make_agent(client.user)
    bodies = {"/api/v1/chat/": {"message": "hi"}, "/api/v1/sessions/": {}, PATH: BODY}
    body = bodies.get(path, {"agent": agent.name, "input": {"message": "hi"}})
    response = client.post(path, body, Idempotency_Key=key)
    assert_problem(response, 400, "invalid-idempotency-key")
    assert not AgentTask.objects.exists()
    assert not Agent.objects.filter(name="clerk").exists()


def test_the_same_request_again_makes_nothing_and_gives_the_same_object(client):
    first = client.post(PATH, BODY, Idempotency_Key="one")
    again = client.post(PATH.rstrip("/"), dict(reversed(BODY.items())), Idempotency_Key="one")
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first["Location"] == again["Location"]
    assert "Idempotent-Replay" not in first
    assert again["Idempotent-Replay"] == "true"
    assert Agent.objects.filter(name="clerk").count() == 1


def test_another_body_under_the_same_key_is_refused(client):
    client.post(PATH, BODY, Idempotency_Key="one")
    response = client.post(PATH, {**BODY, "name": "other"}, Idempotency_Key="one")
    assert_problem(response, 422, "idempotency-key-reused")
    assert not Agent.objects.filter(name="other").exists()


def test_a_key_belongs_to_its_person_and_its_address(client):
    make_builtin_node()
    client.post(PATH, BODY, Idempotency_Key="one")
    session = client.post("/api/v1/sessions/", {"agent": "clerk"}, Idempotency_Key="one")
    assert "Idempotent-Replay" not in session
    other = ApiClient(make_operator()).post(PATH, {**BODY, "name": "other"}, Idempotency_Key="one")
    assert other.status_code == 201
    assert "Idempotent-Replay" not in other


def test_a_refused_request_does_not_use_up_its_key(client):
    make_agent(client.user, name="clerk")
    assert_problem(client.post(PATH, BODY, Idempotency_Key="one"), 422, "invalid-input")
    assert not IdempotencyRecord.objects.exists()
    Agent.objects.filter(name="clerk").update(name="renamed")
    assert client.post(PATH, BODY, Idempotency_Key="one").status_code == 201


def test_without_a_key_every_request_counts(client):
    assert client.post(PATH, BODY).status_code == 201
    assert_problem(client.post(PATH, BODY), 422, "invalid-input")
