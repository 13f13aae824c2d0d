import pytest

from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_builtin_node, make_operator, make_session, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LISTS = ["/api/v1/agents/", "/api/v1/sessions/", "/api/v1/tasks/", "/api/v1/nodes/"]


@pytest.fixture
def operator():
    return make_operator()


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["page=2", "limit=5", "owner_id=1", "STATUS=failed", "offset=0", "q=x", "%00=1"])
def test_a_parameter_that_a_list_does_not_know_is_refused(operator, path, query):
    assert_problem(ApiClient(operator).get(f"{path}?{query}"), 400, "invalid-query")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "order", ["", "secret_hash", "owner__password", "--created_at", "created_at,-created_at", "?"]
)
def test_an_order_that_a_list_does_not_offer_is_refused(operator, path, order):
    problem = assert_problem(ApiClient(operator).get(f"{path}?ordering={order}"), 400, "invalid-query")
    assert list(problem["errors"]) == ["ordering"]


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "status=failed&status=lost",
        "kind=unknown",
        "session=abc",
        "created_after=yesterday",
        "created_after=0001-01-01T00:00:00%2B23:59",
        "created_before=9999-12-31T23:59:59-23:59",
        "created_after=2026-13-01",
        "agent=%00",
        "search=%00",
        "search=" + "x" * 201,
    ],
)
def test_a_value_that_makes_no_sense_is_refused(operator, query):
    assert_problem(ApiClient(operator).get(f"/api/v1/tasks/?{query}"), 400, "invalid-query")


@pytest.mark.parametrize("value", ["yes", "1", "True", "none"])
def test_a_truth_is_true_or_false(operator, value):
    assert_problem(ApiClient(operator).get(f"/api/v1/agents/?is_enabled={value}"), 400, "invalid-query")


def test_both_truths_filter(operator):
    enabled, disabled = make_agent(operator), make_agent(operator, is_enabled=False)
    client = ApiClient(operator)
    assert [row["name"] for row in client.get("/api/v1/agents/?is_enabled=true").json()["results"]] == [enabled.name]
    assert [row["name"] for row in client.get("/api/v1/agents/?is_enabled=false").json()["results"]] == [disabled.name]


def test_an_offered_order_is_kept(operator):
    for name in ("beta", "alpha", "gamma"):
        make_agent(operator, name=name)
    rows = ApiClient(operator).get("/api/v1/agents/?ordering=-name").json()["results"]
    assert [row["name"] for row in rows] == ["gamma", "beta", "alpha"]


def test_a_search_finds_rows_that_hold_every_word(operator):
    make_builtin_node()
    agent = make_agent(operator)
    wanted = make_task(operator, agent, message="The Größe of the moon")
    make_task(operator, agent, message="The colour of the moon")
    client = ApiClient(operator)
    rows = client.get("/api/v1/tasks/?search=moon%20Größe").json()["results"]
    assert [row["id"] for row in rows] == [str(wanted.pk)]
    assert len(client.get("/api/v1/tasks/?search=MOON").json()["results"]) == 2
    assert client.get("/api/v1/tasks/?search=100%25").json()["results"] == []


def test_a_row_with_many_matches_is_found_once(operator):
    make_builtin_node()
    agent = make_agent(operator)
    session = make_session(operator, agent)
    for _ in range(3):
        make_task(operator, agent, message="needle", session=session)
    make_session(operator, agent)
    rows = ApiClient(operator).get("/api/v1/sessions/?search=needle").json()["results"]
    assert [row["id"] for row in rows] == [str(session.pk)]


def test_the_time_of_a_task_filters(operator):
    make_builtin_node()
    agent = make_agent(operator)
    first, second = make_task(operator, agent), make_task(operator, agent)
    client = ApiClient(operator)
    moment = second.created_at.isoformat().replace("+", "%2B")
    after = client.get(f"/api/v1/tasks/?created_after={moment}").json()["results"]
    before = client.get(f"/api/v1/tasks/?created_before={moment}").json()["results"]
    assert [row["id"] for row in after] == [str(second.pk)]
    assert [row["id"] for row in before] == [str(first.pk)]


def test_several_states_filter_together(operator):
    make_builtin_node()
    agent = make_agent(operator)
    task = make_task(operator, agent)
    client = ApiClient(operator)
    assert len(client.get(f"/api/v1/tasks/?status=failed&status={task.status}").json()["results"]) == 1
    assert client.get("/api/v1/tasks/?status=failed&status=expired").json()["results"] == []
