"""What keys are limited to, on real rows."""

import pytest
from django.test import Client

from agents.models import AgentTask
from core.access import api_keys
from core.models import Verb
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_node, make_operator, make_session, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


class Limited(ApiClient):
    def __init__(self, user, **scope):
        super().__init__()
        text = api_keys.issue(user, scope=api_keys.Scope(**scope))[1]
        self._client = Client(headers={"Authorization": f"Bearer {text}"})


def test_a_key_for_one_agent_knows_no_other(owner, helper):
    other = make_agent(owner.user, name="other")
    of_helper, of_other = make_task(owner.user, helper), make_task(owner.user, other)
    session = make_session(owner.user, other)
    client = Limited(owner.user, agent_names=["helper"])

    assert [item["name"] for item in client.get("/api/v1/agents/").json()["results"]] == ["helper"]
    assert [item["id"] for item in client.get("/api/v1/tasks/").json()["results"]] == [str(of_helper.pk)]
    assert client.get("/api/v1/sessions/").json()["results"] == []
    for path in (
        f"agents/{other.pk}/",
        f"tasks/{of_other.pk}/",
        f"tasks/{of_other.pk}/events/",
        f"sessions/{session.pk}/",
    ):
        assert_problem(client.get(f"/api/v1/{path}"), 404, "not-found")
    for body in ({"agent": "other"}, {"agent": str(other.pk)}):
        assert_problem(client.post("/api/v1/chat/", {"message": "hi", **body}), 404, "agent-not-found")
    assert_problem(
        client.post("/api/v1/chat/", {"message": "hi", "session": str(session.pk)}), 404, "session-not-found"
    )
    assert client.post("/api/v1/chat/", {"message": "hi"}, Prefer="respond-async").status_code == 202
    assert AgentTask.objects.count() == 3


def test_a_key_for_one_model_runs_on_no_other(owner, builtin):
    make_node(models=("small:latest", "large:latest"))
    for name in ("small", "large"):
        make_agent(owner.user, name=name, content={"model": name})
    client = Limited(owner.user, model_names=["small"])
    assert client.post("/api/v1/tasks/", {"agent": "small", "input": {"message": "hi"}}).status_code == 202
    refused = client.post("/api/v1/tasks/", {"agent": "large", "input": {"message": "hi"}})
    assert_problem(refused, 403, "model-not-permitted")
    assert AgentTask.objects.count() == 1


def test_an_operators_key_without_that_right_sees_the_operators_own_work_alone(owner, operator, helper):
    make_task(owner.user, helper)
    own = make_task(operator.user, helper)
    client = Limited(operator.user, verbs=[Verb.READ, Verb.SUBMIT])
    assert [item["id"] for item in client.get("/api/v1/tasks/").json()["results"]] == [str(own.pk)]
    assert_problem(client.get("/api/v1/nodes/"), 403, "not-permitted")


def test_a_viewer_reads_and_submits_nothing(helper):
    client = ApiClient(make_operator(role="viewer"))
    assert client.get("/api/v1/agents/").status_code == 200
    assert_problem(client.post("/api/v1/chat/", {"message": "hi"}), 403, "not-permitted")
    assert not AgentTask.objects.exists()
