import uuid

import pytest

from agents.api.streams import AWAIT_HEADER, FOLLOW_HEADER
from agents.models import Agent, AgentTask, ChatMessage, ChatSession, TaskEvent
from tests.api import assert_problem
from tests.factories import make_agent, make_session

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/chat/"


def nothing_was_written():
    rows = (AgentTask, TaskEvent, ChatSession, ChatMessage)
    return not any(model.objects.exists() for model in rows)


@pytest.mark.parametrize("path", [PATH, "/api/v1/chat"])
def test_a_message_becomes_a_task_whose_answer_is_awaited(owner, helper, path):
    response = owner.post(path, {"message": "Hello"})
    task = AgentTask.objects.get()
    assert response.status_code == 200
    assert response[AWAIT_HEADER] == str(task.pk)
    assert (task.owner, task.agent, task.input) == (owner.user, helper, {"message": "Hello"})
    assert task.session.owner == owner.user
    assert ChatMessage.objects.get().content == "Hello"


def test_a_stream_follows_the_task_from_its_first_event(owner, helper):
    response = owner.post(PATH, {"message": "Hello", "stream": True}, Accept="text/event-stream")
    assert response["Content-Type"].startswith("text/event-stream")
    assert response[FOLLOW_HEADER] == f"{AgentTask.objects.get().pk} 0"


@pytest.mark.parametrize("preference", ["respond-async", "wait=5, respond-async", "Respond-Async; x=1"])
def test_who_prefers_so_is_answered_before_the_work(owner, helper, preference):
    response = owner.post(PATH, {"message": "Hello"}, Prefer=preference)
    task = AgentTask.objects.get()
    assert response.status_code == 202
    assert response.json() == {"task": str(task.pk)}
    assert response["Location"] == f"/api/v1/tasks/{task.pk}/"
    assert response["Preference-Applied"] == "respond-async"
    assert owner.get(response["Location"]).status_code == 200


def test_a_conversation_goes_on(owner, helper):
    owner.post(PATH, {"message": "First"})
    session = ChatSession.objects.get()
    owner.post(PATH, {"message": "Second", "session": str(session.pk)})
    assert ChatSession.objects.count() == 1
    assert [task.session_id for task in AgentTask.objects.all()] == [session.pk] * 2


def test_a_session_names_the_agent(owner, helper):
    other = make_agent(owner.user)
    session = make_session(owner.user, other)
    owner.post(PATH, {"message": "Hello", "session": str(session.pk)})
    assert AgentTask.objects.get().agent == other


def test_the_helper_answers_unless_another_agent_is_named(owner, helper):
    other = make_agent(owner.user, name="aaa")
    owner.post(PATH, {"message": "to nobody"})
    owner.post(PATH, {"message": "by name", "agent": "aaa"})
    owner.post(PATH, {"message": "by id", "agent": str(other.pk)})
    assert [task.agent.name for task in AgentTask.objects.order_by("id")] == ["helper", "aaa", "aaa"]


def test_without_a_helper_the_first_ready_chat_agent_answers(owner, helper):
    Agent.objects.filter(pk=helper.pk).update(is_enabled=False)
    make_agent(owner.user, name="aaa", kind="text_analysis")
    make_agent(owner.user, name="bbb")
    owner.post(PATH, {"message": "Hello"})
    assert AgentTask.objects.get().agent.name == "bbb"


def test_a_repeated_request_awaits_the_same_task(owner, helper):
    first = owner.post(PATH, {"message": "Hello"}, Idempotency_Key="k")
    again = owner.post(PATH, {"message": "Hello"}, Idempotency_Key="k")
    assert first[AWAIT_HEADER] == again[AWAIT_HEADER]
    assert again["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first
    assert AgentTask.objects.count() == ChatSession.objects.count() == ChatMessage.objects.count() == 1
    problem = owner.post(PATH, {"message": "Something else"}, Idempotency_Key="k")
    assert_problem(problem, 422, "idempotency-key-reused")
    assert AgentTask.objects.count() == 1


def test_an_operator_tries_a_version_that_is_not_live(operator, helper):
    version = helper.add_version(created_by=operator.user, system_prompt="Answer in rhyme.")
    operator.post(PATH, {"message": "Hello", "version": version.number})
    assert AgentTask.objects.get().version == version
    assert_problem(operator.post(PATH, {"message": "Hello", "version": 99}), 404, "version-not-found")


def test_only_operators_choose_versions(owner, helper):
    assert_problem(owner.post(PATH, {"message": "Hello", "version": 1}), 403, "not-permitted")
    assert nothing_was_written()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "message", id="no message"),
        pytest.param({"message": ""}, "message", id="empty"),
        pytest.param({"message": " \n"}, "message", id="blank"),
        pytest.param({"message": None}, "message", id="null"),
        pytest.param({"message": 5}, "message", id="number"),
        pytest.param({"message": ["a"]}, "message", id="list"),
        pytest.param({"message": "nul\x00l"}, "message", id="nul character"),
        pytest.param({"message": "x" * 100_001}, "message", id="over the limit"),
        pytest.param({"message": "a", "temperature": 1}, "temperature", id="unknown field"),
        pytest.param({"message": "a", "stream": "yes"}, "stream", id="stream as text"),
        pytest.param({"message": "a", "stream": 1}, "stream", id="stream as number"),
        pytest.param({"message": "a", "session": "abc"}, "session", id="session no id"),
        pytest.param({"message": "a", "session": 10**18}, "session", id="session huge"),
        pytest.param({"message": "a", "agent": ""}, "agent", id="agent empty"),
        pytest.param({"message": "a", "agent": 7}, "agent", id="agent as number"),
        pytest.param({"message": "a", "agent": "x" * 61}, "agent", id="agent too long"),
        pytest.param({"message": "a", "version": 0}, "version", id="version zero"),
        pytest.param({"message": "a", "version": 10**18}, "version", id="version huge"),
        pytest.param({"message": "a", "version": 1.5}, "version", id="version broken"),
    ],
)
def test_input_of_the_wrong_shape_names_its_field(owner, helper, body, field):
    problem = assert_problem(owner.post(PATH, body), 422, "invalid-input")
    assert list(problem["errors"]) == [field]
    assert nothing_was_written()


def test_an_unknown_agent_is_not_found(owner, helper):
    assert_problem(owner.post(PATH, {"message": "Hello", "agent": "nobody"}), 404, "agent-not-found")
    assert_problem(owner.post(PATH, {"message": "Hello", "agent": str(uuid.uuid4())}), 404, "agent-not-found")
    assert nothing_was_written()


def test_another_teams_agent_does_not_exist(stranger, helper):
    assert_problem(stranger.post(PATH, {"message": "Hello", "agent": "helper"}), 404, "agent-not-found")
    assert_problem(stranger.post(PATH, {"message": "Hello", "agent": str(helper.pk)}), 404, "agent-not-found")
    assert_problem(stranger.post(PATH, {"message": "Hello"}), 404, "agent-not-found")


@pytest.mark.parametrize("person", ["colleague", "stranger", "operator"])
def test_another_persons_session_does_not_exist(owner, helper, person, request):
    session = make_session(owner.user, helper)
    response = request.getfixturevalue(person).post(PATH, {"message": "Hello", "session": str(session.pk)})
    assert_problem(response, 404, "session-not-found")
    assert not AgentTask.objects.exists()
    assert not ChatMessage.objects.exists()


def test_an_agent_that_does_not_chat_is_refused(owner, builtin):
    agent = make_agent(owner.user, kind="text_analysis")
    problem = assert_problem(owner.post(PATH, {"message": "Hello", "agent": agent.name}), 422, "invalid-input")
    assert list(problem["errors"]) == ["agent"]


def test_a_disabled_agent_takes_no_message(owner, helper):
    Agent.objects.filter(pk=helper.pk).update(is_enabled=False)
    assert_problem(owner.post(PATH, {"message": "Hello", "agent": "helper"}), 409, "agent-not-ready")
    assert nothing_was_written()


def test_a_closed_session_takes_no_message(owner, helper):
    session = make_session(owner.user, helper)
    owner.post(f"/api/v1/sessions/{session.pk}/close/")
    assert_problem(owner.post(PATH, {"message": "Hello", "session": str(session.pk)}), 409, "session-not-usable")
    assert not AgentTask.objects.exists()


def test_a_model_that_no_node_has_is_refused(owner, builtin):
    agent = make_agent(owner.user, content={"model": "nowhere"})
    response = owner.post(PATH, {"message": "Hello", "agent": agent.name})
    assert_problem(response, 409, "model-not-available")
    assert nothing_was_written()


def test_a_full_queue_says_when_to_come_back(owner, helper, builtin, settings):
    settings.MAX_QUEUED_PER_MODEL = 1
    for _ in range(builtin.slots + 1):
        assert owner.post(PATH, {"message": "Hello"}).status_code == 200
    count = AgentTask.objects.count()
    response = owner.post(PATH, {"message": "Hello"}, Idempotency_Key="full")
    assert_problem(response, 503, "queue-full")
    assert int(response["Retry-After"]) > 0
    assert AgentTask.objects.count() == ChatSession.objects.count() == count


def test_a_message_costs_few_queries(owner, helper, django_assert_max_num_queries):
    owner.post(PATH, {"message": "warm up"})
    with django_assert_max_num_queries(20):
        owner.post(PATH, {"message": "Hello"})
