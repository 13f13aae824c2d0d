"""The same request from many threads at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from agents.models import Agent, AgentTask, ChatSession
from tests.api import ApiClient
from tests.factories import make_agent, make_builtin_node, make_operator

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

THREADS = 6


@pytest.fixture
def client():
    return ApiClient(make_operator())


def at_once(call):
    def closing(_):
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(closing, range(THREADS)))


def test_one_key_makes_one_task(client):
    make_builtin_node()
    make_agent(client.user, name="helper")
    headers = {"Idempotency_Key": "k", "Prefer": "respond-async"}
    answers = at_once(lambda: client.post("/api/v1/chat/", {"message": "Hello"}, **headers))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["task"] for answer in answers}) == 1
    assert sum("Idempotent-Replay" not in answer for answer in answers) == 1
    assert AgentTask.objects.count() == ChatSession.objects.count() == 1


def test_one_key_makes_one_agent(client):
    body = {"name": "clerk", "kind": "chat"}
    answers = at_once(lambda: client.post("/api/v1/agents/", body, Idempotency_Key="k"))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Agent.objects.count() == 1


def test_one_name_is_given_once(client):
    answers = at_once(lambda: client.post("/api/v1/agents/", {"name": "clerk", "kind": "chat"}))
    assert sorted(answer.status_code for answer in answers)[:1] == [201]
    assert {answer.status_code for answer in answers} <= {201, 409, 422}
    assert Agent.objects.count() == 1


def test_versions_get_numbers_of_their_own(client):
    agent = make_agent(client.user)
    answers = at_once(lambda: client.post(f"/api/v1/agents/{agent.pk}/versions/", {}))
    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["number"] for answer in answers) == list(range(2, THREADS + 2))
