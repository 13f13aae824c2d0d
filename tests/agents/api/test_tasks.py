import uuid

import pytest

from agents.api.streams import FOLLOW_HEADER
from agents.engine import execution, submit
from agents.models import AgentTask, ChatMessage, ChatSession
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_node, make_session, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/tasks/"


def run(task):
    execution.run(task.pk)
    task.refresh_from_db()
    return task


@pytest.fixture
def task(owner, helper):
    """A task of the owner's that has not ended."""
    return make_task(owner.user, helper, starts_session=True)


@pytest.mark.parametrize("path", [PATH, "/api/v1/tasks"])
def test_a_task_is_accepted_with_its_address(owner, helper, path):
    response = owner.post(path, {"agent": "helper", "input": {"message": "Hello"}})
    task = AgentTask.objects.get()
    assert response.status_code == 202
    assert response.json() == {"task": str(task.pk)}
    assert response["Location"] == f"/api/v1/tasks/{task.pk}/"
    assert (task.owner, task.input, task.session) == (owner.user, {"message": "Hello"}, None)


def test_a_task_may_begin_or_go_on_with_a_conversation(owner, helper):
    owner.post(PATH, {"agent": "helper", "input": {"message": "First"}, "session": "new"})
    session = ChatSession.objects.get()
    owner.post(PATH, {"agent": str(helper.pk), "input": {"message": "Second"}, "session": str(session.pk)})
    assert [task.session for task in AgentTask.objects.all()] == [session, session]


def test_an_unfinished_task_says_where_it_stands(owner, task):
    shown = owner.get(f"{PATH}{task.pk}/").json()
    assert shown["id"] == str(task.pk)
    assert shown["status"] == "running"
    assert shown["agent"] == "helper"
    assert shown["version"] == 1
    assert shown["model"] == "builtin"
    assert shown["input"] == {"message": "Hello"}
    assert shown["session"] == str(task.session_id)
    assert shown["owner"] == "owner"
    assert (shown["result"], shown["error"], shown["output"], shown["position"]) == (None, None, None, None)
    assert_problem(owner.get(shown["receipt_url"]), 404, "not-found")


def test_a_waiting_task_knows_its_place(owner, helper, builtin):
    tasks = [make_task(owner.user, helper) for _ in range(builtin.slots + 2)]
    assert owner.get(f"{PATH}{tasks[-1].pk}").json()["position"] == 2


def test_a_finished_task_has_its_answer_and_its_receipt(owner, task):
    run(task)
    shown = owner.get(f"{PATH}{task.pk}/").json()
    assert shown["status"] == "succeeded"
    assert shown["result"]
    assert shown["error"] is None
    assert shown["is_degraded"] is True
    receipt = owner.get(shown["receipt_url"]).json()
    assert receipt["node"] == "built-in"
    assert sum(phase["seconds"] for phase in receipt["phases"]) == pytest.approx(receipt["wall_seconds"])


def test_a_cancelled_task_says_why_it_has_no_answer(owner, task):
    response = owner.post(f"{PATH}{task.pk}/cancel/")
    assert response.status_code == 200
    assert response.json()["status"] == "cancelled"
    assert response.json()["error"]["code"] == "cancelled"
    assert owner.post(f"{PATH}{task.pk}/cancel").status_code == 200  # it is what was asked for


def test_a_task_that_ended_otherwise_cannot_be_cancelled(owner, task):
    run(task)
    assert_problem(owner.post(f"{PATH}{task.pk}/cancel/"), 409, "task-already-finished")
    task.refresh_from_db()
    assert task.status == "succeeded"


def test_a_finished_task_is_tried_again_as_a_new_one(owner, task):
    run(task)
    first = owner.post(f"{PATH}{task.pk}/retry/", Idempotency_Key="r")
    again = owner.post(f"{PATH}{task.pk}/retry", Idempotency_Key="r")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again["Idempotent-Replay"] == "true"
    retried = AgentTask.objects.get(pk=first.json()["task"])
    assert (retried.retry_of, retried.input, retried.owner) == (task, task.input, owner.user)
    assert AgentTask.objects.count() == 2


def test_an_unfinished_task_is_not_tried_again(owner, task):
    assert_problem(owner.post(f"{PATH}{task.pk}/retry/"), 409, "task-not-finished")
    assert AgentTask.objects.count() == 1


def test_a_colleagues_task_that_an_operator_retries_stays_the_colleagues(operator, owner, task):
    run(task)
    retried = operator.post(f"{PATH}{task.pk}/retry/").json()["task"]
    assert owner.get(f"{PATH}{retried}/").status_code == 200


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_actions_take_no_input(owner, task, action):
    problem = assert_problem(owner.post(f"{PATH}{task.pk}/{action}/", {"force": True}), 422, "invalid-input")
    assert list(problem["errors"]) == ["force"]
    task.refresh_from_db()
    assert task.status == "running"


# Events


def test_events_are_followed_from_the_beginning(owner, task):
    response = owner.get(f"{PATH}{task.pk}/events/")
    assert response["Content-Type"].startswith("text/event-stream")
    assert response[FOLLOW_HEADER] == f"{task.pk} 0"


def test_events_are_followed_from_where_a_client_was(owner, task):
    path = f"{PATH}{task.pk}/events"
    assert owner.get(f"{path}?after=2")[FOLLOW_HEADER] == f"{task.pk} 2"
    assert owner.get(path, Last_Event_ID="3", Accept="text/event-stream")[FOLLOW_HEADER] == f"{task.pk} 3"
    assert owner.get(f"{path}?after=2", Last_Event_ID="3")[FOLLOW_HEADER] == f"{task.pk} 3"


def test_asking_for_the_headers_alone_follows_nothing(owner, task):
    response = owner.head(f"{PATH}{task.pk}/events/")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/event-stream")
    assert FOLLOW_HEADER not in response


@pytest.mark.parametrize("value", ["", "-1", "abc", "1.0", "2147483648", "9" * 5000, "٣", "1 2"])
def test_a_last_event_id_that_is_none_is_refused(owner, task, value):
    assert_problem(owner.get(f"{PATH}{task.pk}/events/", Last_Event_ID=value), 400, "invalid-query")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=9999999999", "from=1", "cursor=a"])
def test_a_query_of_events_that_is_none_is_refused(owner, task, query):
    assert_problem(owner.get(f"{PATH}{task.pk}/events/?{query}"), 400, "invalid-query")


def test_events_are_listed_as_json_page_by_page(owner, task):
    run(task)
    seen, path = [], f"{PATH}{task.pk}/events/?page_size=2"
    while path:
        page = owner.get(path, Accept="application/json").json()
        assert len(page["results"]) <= 2
        seen += page["results"]
        path = page["next"]
    assert [event["number"] for event in seen] == list(range(1, task.event_count + 1))
    assert seen[0]["type"] == "state"
    assert seen[0]["data"]["task"] == str(task.pk)
    assert seen[-1]["type"] == "done"
    assert "".join(event["data"]["text"] for event in seen if event["type"] == "delta") == task.result


def test_events_are_shown_to_a_browser_as_a_page(owner, task):
    response = owner.get(f"{PATH}{task.pk}/events/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")


# Bad input


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "agent"),
        ({"agent": "helper"}, "input"),
        ({"agent": "helper", "input": "Hello"}, "input"),
        ({"agent": "helper", "input": []}, "input"),
        ({"agent": "helper", "input": {}}, "message"),
        ({"agent": "helper", "input": {"message": ""}}, "message"),
        ({"agent": "helper", "input": {"message": "a\x00"}}, "input"),
        ({"agent": "helper", "input": {"text": "a"}}, "text"),
        ({"agent": "helper", "input": {"message": "a"}, "priority": 9}, "priority"),
        ({"agent": "helper", "input": {"message": "a"}, "session": "old"}, "session"),
        ({"agent": "helper", "input": {"message": "a"}, "version": "1"}, "version"),
    ],
)
def test_input_of_the_wrong_shape_names_its_field(owner, helper, body, field):
    problem = assert_problem(owner.post(PATH, body), 422, "invalid-input")
    assert field in problem["errors"]
    assert not AgentTask.objects.exists()


def test_agents_without_conversations_begin_none(owner, builtin):
    agent = make_agent(owner.user, kind="text_analysis")
    session = make_session(owner.user)
    for value in ("new", str(session.pk)):
        response = owner.post(PATH, {"agent": agent.name, "input": {"text": "Hello"}, "session": value})
        problem = assert_problem(response, 422, "invalid-input")
        assert list(problem["errors"]) == ["session"]
    assert not AgentTask.objects.exists()


def test_what_a_task_names_must_exist(owner, helper):
    body = {"agent": "helper", "input": {"message": "a"}}
    assert_problem(owner.post(PATH, {**body, "agent": "nobody"}), 404, "agent-not-found")
    assert_problem(owner.post(PATH, {**body, "session": str(uuid.uuid4())}), 404, "session-not-found")
    assert not AgentTask.objects.exists()


def test_a_task_that_no_node_can_take_is_refused_at_once_and_says_when_to_come_back(owner, caplog):
    make_node(models=("tiny:latest",), is_down=True)
    make_agent(owner.user, name="big", content={"model": "tiny"})
    response = owner.post(PATH, {"agent": "big", "input": {"message": "Hello"}})
    assert_problem(response, 503, "model-unavailable")
    assert response["Retry-After"] == "5"
    assert not AgentTask.objects.exists()
    assert "Traceback" not in caplog.text  # while nodes are away, there may be many of these


def test_a_refused_task_leaves_its_key_free(owner, helper):
    body = {"agent": "helper", "input": {"message": "a"}, "session": str(uuid.uuid4())}
    assert_problem(owner.post(PATH, body, Idempotency_Key="k"), 404, "session-not-found")
    ChatSession.objects.create(
        id=body["session"],
        agent=helper,
        owner=owner.user,
        team=owner.user.team,
        created_at=helper.created_at,
        last_active_at=helper.created_at,
    )
    assert owner.post(PATH, body, Idempotency_Key="k").status_code == 202


# Three people


def test_operators_and_the_owner_see_a_task(owner, operator, task):
    for client in (owner, operator):
        assert client.get(f"{PATH}{task.pk}/").status_code == 200
        assert [row["id"] for row in client.get(PATH).json()["results"]] == [str(task.pk)]


@pytest.mark.parametrize("person", ["colleague", "stranger"])
def test_for_others_a_task_does_not_exist(task, person, request):
    client = request.getfixturevalue(person)
    assert client.get(PATH).json()["results"] == []
    for path in ("", "events/", "receipt/"):
        assert_problem(client.get(f"{PATH}{task.pk}/{path}"), 404, "not-found")
    for action in ("cancel/", "retry/"):
        assert_problem(client.post(f"{PATH}{task.pk}/{action}"), 404, "not-found")
    body = {"agent": "helper", "input": {"message": "a"}, "session": str(task.session_id)}
    assert client.post(PATH, body).status_code == 404
    task.refresh_from_db()
    assert task.status == "running"
    assert AgentTask.objects.count() == ChatMessage.objects.count() == 1


def test_without_credentials_nothing_is_told(task):
    client = ApiClient()
    for path in (PATH, f"{PATH}{task.pk}/", f"{PATH}{task.pk}/events/"):
        assert_problem(client.get(path), 401, "not-authenticated")
    assert_problem(client.post(PATH, {"agent": "helper", "input": {"message": "a"}}), 401, "not-authenticated")


def test_a_list_costs_the_same_for_many_rows(owner, helper, django_assert_max_num_queries):
    for _ in range(5):
        make_task(owner.user, helper)
    owner.get(PATH)
    with django_assert_max_num_queries(2) as few:
        owner.get(f"{PATH}?page_size=1")
    with django_assert_max_num_queries(len(few)):
        assert len(owner.get(PATH).json()["results"]) == 5


def test_a_task_costs_few_queries(owner, task, django_assert_max_num_queries):
    submit.cancel(task.pk)
    owner.get(PATH)
    with django_assert_max_num_queries(2):
        owner.get(f"{PATH}{task.pk}/")
