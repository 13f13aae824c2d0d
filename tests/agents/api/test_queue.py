"""The queue, and the classes of priority, as programs see them."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import AgentTask, NodeModel
from core.models import AuditEntry
from tests import queries
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_node, make_operator, make_task, make_team, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

MODEL = "tinyllama:latest"
QUEUE, TASKS = "/api/v1/queue/", "/api/v1/tasks/"


@pytest.fixture
def owner():
    return ApiClient(make_user(username="ada", team=make_team(name="Research")))


@pytest.fixture
def operator():
    return ApiClient(make_operator())


@pytest.fixture
def agent(owner):
    """An agent whose only slot is taken."""
    make_node(name="gpu1", slots=1, models=(MODEL,))
    agent = make_agent(owner.user, name="busy", content={"model": MODEL})
    make_task(owner.user, agent)
    return agent


def submitted(client, agent, **more):
    response = client.post(TASKS, {"agent": agent.name, "input": {"message": "hi"}, **more})
    assert response.status_code == 202, response.content
    return AgentTask.objects.get(pk=response.json()["task"])


def priority_of(client, task):
    return client.get(f"{TASKS}{task.pk}/").json()["priority"]


def test_operators_see_who_waits_where_and_how_long(owner, operator, agent):
    waiting = submitted(owner, agent)
    NodeModel.objects.update(service_seconds=20)
    (found,) = operator.get(QUEUE).json()["results"]
    (task,), (place,) = found.pop("tasks"), found.pop("places")
    assert found == {"model": MODEL, "slots": 1, "running": 1, "waiting": 1, "expected_wait_seconds": 40}
    assert place == {
        "node": "gpu1",
        "node_id": str(agent.tasks.running().get().node_id),
        "breaker_state": "closed",
        "is_draining": False,
        "is_loaded": False,
        "slots": 1,
        "running": 1,
        "service_seconds": 20,
        "room_at": None,
    }
    assert task.pop("waits_since").endswith("Z")
    assert task == {
        "task": str(waiting.pk),
        "task_url": f"{TASKS}{waiting.pk}/",
        "position": 1,
        "priority": "normal",
        "waits_as": "normal",
        "agent": "busy",
        "owner": "ada",
        "team": "Research",
        "expected_wait_seconds": 20,
    }


@pytest.mark.parametrize(("query", "models"), [("?model=TinyLlama", 1), ("?model=other", 0), ("?tasks=0", 1)])
def test_the_queue_is_asked_for_in_part(operator, owner, agent, query, models):
    submitted(owner, agent)
    results = operator.get(QUEUE + query).json()["results"]
    assert len(results) == models
    assert all(len(queue["tasks"]) == ("tasks=0" not in query) and queue["waiting"] == 1 for queue in results)


@pytest.mark.parametrize("query", ["?tasks=1001", "?tasks=-1", "?tasks=x", "?page=2"])
def test_a_query_that_makes_no_sense_is_refused(operator, query):
    assert_problem(operator.get(QUEUE + query), 400, "invalid-query")


def test_the_queue_is_for_operators(owner, agent):
    task = submitted(owner, agent)
    assert_problem(owner.get(QUEUE), 403, "not-permitted")
    assert_problem(owner.post(f"{TASKS}{task.pk}/priority/", {"priority": "background"}), 403, "not-permitted")
    assert_problem(ApiClient().get(QUEUE), 401, "not-authenticated")
    assert priority_of(owner, task) == "normal"


def test_the_queue_costs_the_same_for_many(operator, owner, agent, django_assert_num_queries):
    submitted(owner, agent)
    operator.get(QUEUE)
    with CaptureQueriesContext(connection) as captured:
        operator.get(QUEUE)
    few = len(queries.asked(captured))
    for _ in range(4):
        make_node(slots=1, models=(MODEL, "other:latest"))
        submitted(owner, agent, priority="background")
    with django_assert_num_queries(few):
        operator.get(QUEUE)


# Moving -----------------------------------------------------------------------------------------------------------


def test_operators_move_what_waits_and_that_is_told(owner, operator, agent):
    first, second = submitted(owner, agent), submitted(owner, agent)
    AuditEntry.objects.all()._raw_delete("default")
    response = operator.post(f"{TASKS}{second.pk}/priority", {"priority": "front"})
    assert response.status_code == 200
    assert (response.json()["priority"], response.json()["position"]) == ("front", 1)
    assert owner.get(f"{TASKS}{first.pk}/").json()["position"] == 2
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes) == ("agent-task.priority", {"priority": [2, 0]})


def test_what_does_not_wait_is_not_moved(owner, operator, agent):
    running = AgentTask.objects.running().get()
    assert_problem(operator.post(f"{TASKS}{running.pk}/priority/", {"priority": "front"}), 409, "task-does-not-wait")
    assert priority_of(owner, running) == "normal"


@pytest.mark.parametrize("body", [{}, {"priority": "urgent"}, {"priority": 0}, {"priority": None}, {"class": "front"}])
def test_a_move_that_makes_no_sense_is_refused(owner, operator, agent, body):
    task = submitted(owner, agent)
    assert_problem(operator.post(f"{TASKS}{task.pk}/priority/", body), 422, "invalid-input")
    assert priority_of(owner, task) == "normal"


# Asking for a class -------------------------------------------------------------------------------------------------


def test_tasks_are_normal_and_anybody_may_wait_behind_others(owner, agent):
    assert priority_of(owner, submitted(owner, agent)) == "normal"
    assert priority_of(owner, submitted(owner, agent, priority="normal")) == "normal"
    assert priority_of(owner, submitted(owner, agent, priority="background")) == "background"


def test_only_operators_ask_for_a_higher_class_and_nobody_for_the_front(owner, operator, agent):
    body = {"agent": str(agent.pk), "input": {"message": "hi"}, "priority": "interactive"}
    count = AgentTask.objects.count()
    assert_problem(owner.post(TASKS, body), 403, "priority-not-permitted")
    for client in (owner, operator):
        for nonsense in ("front", 1, "INTERACTIVE"):
            assert_problem(client.post(TASKS, {**body, "priority": nonsense}), 422, "invalid-input")
    assert AgentTask.objects.count() == count
    response = operator.post(TASKS, body)
    assert priority_of(operator, AgentTask.objects.get(pk=response.json()["task"])) == "interactive"


@pytest.mark.parametrize(
    ("more", "headers", "expected"),
    [
        ({}, {}, "interactive"),
        ({"stream": True}, {}, "interactive"),
        ({}, {"Prefer": "respond-async"}, "normal"),
        ({"stream": True}, {"Prefer": "respond-async"}, "interactive"),
        ({"priority": "background"}, {}, "background"),
    ],
)
def test_answers_that_somebody_waits_for_are_interactive(owner, agent, more, headers, expected):
    response = owner.post("/api/v1/chat/", {"agent": agent.name, "message": "hi", **more}, **headers)
    assert response.status_code in {200, 202}
    assert priority_of(owner, AgentTask.objects.latest("pk")) == expected


def test_whoever_fetches_the_answer_later_asks_for_no_higher_class(owner, agent):
    body = {"agent": agent.name, "message": "hi", "priority": "interactive"}
    assert_problem(owner.post("/api/v1/chat/", body, Prefer="respond-async"), 403, "priority-not-permitted")


# Where one stands ---------------------------------------------------------------------------------------------------


def test_a_task_tells_its_place_and_the_expected_wait(owner, agent):
    first, second = submitted(owner, agent), submitted(owner, agent)
    shown = owner.get(f"{TASKS}{second.pk}/").json()
    assert (shown["position"], shown["expected_wait_seconds"]) == (2, None)
    NodeModel.objects.update(service_seconds=1.5)
    shown = owner.get(f"{TASKS}{second.pk}/").json()
    assert (shown["position"], shown["expected_wait_seconds"]) == (2, 3.0)
    assert "position" not in owner.get(TASKS).json()["results"][0]
    assert owner.get(f"{TASKS}{first.pk}/").json()["position"] == 1
