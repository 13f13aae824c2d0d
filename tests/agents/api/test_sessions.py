import pytest

from agents.engine import execution
from agents.models import Agent, ChatSession
from tests.api import ApiClient, assert_problem, counting_queries
from tests.factories import make_agent, make_session, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/sessions/"


@pytest.fixture
def session(owner, helper):
    return make_session(owner.user, helper, title="About the moon")


def test_a_session_begins_empty_and_takes_messages(owner, helper):
    response = owner.post(PATH, {"agent": "helper", "title": "Plans"})
    assert response.status_code == 201
    shown = response.json()
    assert response["Location"] == f"{PATH}{shown['id']}/"
    assert (shown["agent"], shown["title"], shown["owner"], shown["closed_at"]) == ("helper", "Plans", "owner", None)
    assert owner.get(shown["messages_url"]).json()["results"] == []
    chat = owner.post("/api/v1/chat/", {"message": "Hello", "session": shown["id"]})
    assert chat.status_code == 200
    assert len(owner.get(shown["messages_url"]).json()["results"]) == 1


def test_without_an_agent_the_helper_is_taken(owner, helper):
    make_agent(owner.user, name="aaa")
    assert owner.post(PATH).json()["agent"] == "helper"


def test_messages_are_listed_newest_first_or_oldest_first(owner, session):
    task = make_task(owner.user, session.agent, session=session, message="How far is the moon?")
    execution.run(task.pk)
    task.refresh_from_db()
    newest = owner.get(f"{PATH}{session.pk}/messages/").json()["results"]
    assert [row["role"] for row in newest] == ["assistant", "user"]
    assert newest[0]["content"] == task.result
    assert newest[1]["content"] == "How far is the moon?"
    assert {row["task"] for row in newest} == {str(task.pk)}
    assert owner.get(f"{PATH}{session.pk}/messages?ordering=created_at").json()["results"] == newest[::-1]
    found = owner.get(f"{PATH}{session.pk}/messages?search=far").json()["results"]
    assert "How far is the moon?" in [row["content"] for row in found]


def test_sessions_are_found_by_title_and_message(owner, session):
    other = make_session(owner.user, session.agent)
    make_task(owner.user, session.agent, session=other, message="The sun is hot")
    assert [row["id"] for row in owner.get(f"{PATH}?search=moon").json()["results"]] == [str(session.pk)]
    assert [row["id"] for row in owner.get(f"{PATH}?search=hot%20sun").json()["results"]] == [str(other.pk)]


def test_a_session_is_closed_once(owner, session):
    closed = owner.post(f"{PATH}{session.pk}/close/").json()["closed_at"]
    assert closed
    assert owner.post(f"{PATH}{session.pk}/close").json()["closed_at"] == closed
    assert [row["id"] for row in owner.get(f"{PATH}?is_closed=true").json()["results"]] == [str(session.pk)]
    assert owner.get(f"{PATH}?is_closed=false").json()["results"] == []


def test_sessions_filter_by_agent(owner, session):
    make_session(owner.user)
    for name in ("helper", str(session.agent_id)):
        rows = owner.get(f"{PATH}?agent={name}&active_after=2020-01-01").json()["results"]
        assert [row["id"] for row in rows] == [str(session.pk)]
    assert owner.get(f"{PATH}?agent=nobody").json()["results"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "x" * 121}, "title"),
        ({"title": "a\x00"}, "title"),
        ({"title": 5}, "title"),
        ({"agent": ""}, "agent"),
        ({"owner": "me"}, "owner"),
    ],
)
def test_input_of_the_wrong_shape_names_its_field(owner, helper, body, field):
    problem = assert_problem(owner.post(PATH, body), 422, "invalid-input")
    assert list(problem["errors"]) == [field]
    assert not ChatSession.objects.exists()


def test_an_agent_that_cannot_converse_begins_no_session(owner, helper):
    analyst = make_agent(owner.user, kind="text_analysis")
    assert_problem(owner.post(PATH, {"agent": analyst.name}), 422, "invalid-input")
    assert_problem(owner.post(PATH, {"agent": "nobody"}), 404, "agent-not-found")
    Agent.objects.update(is_enabled=False)
    assert_problem(owner.post(PATH, {"agent": "helper"}), 409, "agent-not-ready")
    assert_problem(owner.post(PATH), 404, "agent-not-found")
    assert not ChatSession.objects.exists()


def test_operators_and_the_owner_see_a_session(owner, operator, session):
    for client in (owner, operator):
        assert [row["id"] for row in client.get(PATH).json()["results"]] == [str(session.pk)]
        assert client.get(f"{PATH}{session.pk}/").status_code == 200
        assert client.get(f"{PATH}{session.pk}/messages/").status_code == 200


@pytest.mark.parametrize("person", ["colleague", "stranger"])
def test_for_others_a_session_does_not_exist(session, person, request):
    client = request.getfixturevalue(person)
    assert client.get(PATH).json()["results"] == []
    assert_problem(client.get(f"{PATH}{session.pk}/"), 404, "not-found")
    assert_problem(client.get(f"{PATH}{session.pk}/messages/"), 404, "not-found")
    assert_problem(client.post(f"{PATH}{session.pk}/close/"), 404, "not-found")
    session.refresh_from_db()
    assert session.closed_at is None


def test_without_credentials_nothing_is_told(session):
    for path in (PATH, f"{PATH}{session.pk}/messages/"):
        assert_problem(ApiClient().get(path), 401, "not-authenticated")


def test_lists_cost_the_same_for_many_rows(owner, session, django_assert_num_queries):
    for _ in range(5):
        make_session(owner.user)
        make_task(owner.user, session.agent, session=session)
    owner.get(PATH)
    with django_assert_num_queries(counting_queries() + 1):
        assert len(owner.get(PATH).json()["results"]) == 6
    with django_assert_num_queries(counting_queries() + 2):
        assert len(owner.get(f"{PATH}{session.pk}/messages/").json()["results"]) == 5
