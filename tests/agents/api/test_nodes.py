from collections.abc import Iterator

import pytest

from agents.models import AgentTask, Node, NodeModel
from tests.api import ApiClient, assert_problem, counting_queries
from tests.factories import make_agent, make_node, make_task
from tests.ollama_server import OllamaTestServer
from tests.open_transactions import is_any_open
from tests.servers import web_server
from tests.services.server import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/nodes/"


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=["tinyllama:latest"]) as server:
        yield server


def test_a_server_that_answers_becomes_a_node_with_its_models(operator, ollama):
    response = operator.post(PATH, {"name": "gpu1", "url": f"{ollama.url}/", "slots": 2})
    assert response.status_code == 201
    shown = response.json()
    assert response["Location"] == f"{PATH}{shown['id']}/"
    assert (shown["url"], shown["slots"], shown["status"], shown["is_draining"]) == (ollama.url, 2, "up", False)
    assert shown["server_version"]
    models = operator.get(shown["models_url"]).json()["results"]
    assert [model["name"] for model in models] == ["tinyllama:latest"]
    assert models[0]["is_available"] is True


def test_a_repeated_registration_asks_the_server_nothing(operator, ollama):
    body = {"name": "gpu1", "url": ollama.url}
    first = operator.post(PATH, body, Idempotency_Key="n")
    asked = ollama.stats()["requests"]
    again = operator.post(PATH, body, Idempotency_Key="n")
    assert again["Idempotent-Replay"] == "true"
    assert again.json() == first.json()
    assert ollama.stats()["requests"] == asked
    assert_problem(operator.post(PATH, {**body, "name": "x"}, Idempotency_Key="n"), 422, "idempotency-key-reused")
    assert Node.objects.count() == 1


def test_something_that_is_no_ollama_server_is_refused(operator):
    with web_server() as url:
        response = operator.post(PATH, {"name": "web", "url": url}, Idempotency_Key="n")
    assert_problem(response, 422, "not-an-ollama-server")
    assert not Node.objects.exists()


def test_an_address_where_nothing_answers_is_refused(operator):
    response = operator.post(PATH, {"name": "gone", "url": f"http://127.0.0.1:{free_port()}"})
    assert_problem(response, 422, "node-unreachable")
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "x"}, "name"),
        ({"name": "n"}, "url"),
        ({"name": " ", "url": "x"}, "name"),
        ({"name": "n\x00", "url": "x"}, "name"),
        ({"name": "x" * 61, "url": "x"}, "name"),
        ({"name": "n", "url": "x" * 301}, "url"),
        ({"name": "n", "url": "ftp://host"}, "url"),
        ({"name": "n", "url": "http://user:password@host"}, "url"),
        ({"name": "n", "url": "http://host:99999"}, "url"),
        ({"name": "n", "url": "http://[::1"}, "url"),
        ({"name": "n", "url": "http://h/?a=1"}, "url"),
        ({"name": "n", "url": "x", "slots": 0}, "slots"),
        ({"name": "n", "url": "x", "slots": 1025}, "slots"),
        ({"name": "n", "url": "x", "slots": True}, "slots"),
        ({"name": "n", "url": "x", "gap_timeout_seconds": "NaN"}, "gap_timeout_seconds"),
        ({"name": "n", "url": "x", "gap_timeout_seconds": "1e999"}, "gap_timeout_seconds"),
        ({"name": "n", "url": "x", "gap_timeout_seconds": 0}, "gap_timeout_seconds"),
        ({"name": "n", "url": "x", "status": "up"}, "status"),
        ({"name": "n", "url": "x", "kind": "builtin"}, "kind"),
    ],
)
def test_input_of_the_wrong_shape_names_its_field(operator, body, field):
    problem = assert_problem(operator.post(PATH, body), 422, "invalid-input")
    assert list(problem["errors"]) == [field]
    assert not Node.objects.exists()


def test_names_and_addresses_are_given_once(operator, ollama):
    operator.post(PATH, {"name": "gpu1", "url": ollama.url})
    name = assert_problem(operator.post(PATH, {"name": "gpu1", "url": ollama.url}), 422, "invalid-input")
    assert list(name["errors"]) == ["name"]
    url = assert_problem(operator.post(PATH, {"name": "gpu2", "url": ollama.url}), 422, "invalid-input")
    assert list(url["errors"]) == ["url"]
    assert Node.objects.count() == 1


def test_a_node_is_drained_and_tuned(operator):
    node = make_node()
    change = {"is_draining": True, "slots": 9, "first_byte_timeout_seconds": 10, "gap_timeout_seconds": 2.5}
    shown = operator.patch(f"{PATH}{node.pk}/", change).json()
    assert {name: shown[name] for name in change} == change
    node.refresh_from_db()
    assert (node.is_draining, node.slots, node.gap_timeout_seconds) == (True, 9, 2.5)


@pytest.mark.parametrize(
    "body", [{"url": "http://other"}, {"name": "x"}, {"slots": "4"}, {"gap_timeout_seconds": 10**18}]
)
def test_a_change_of_the_wrong_shape_changes_nothing(operator, body):
    node = make_node()
    before = Node.objects.filter(pk=node.pk).values().get()
    assert_problem(operator.patch(f"{PATH}{node.pk}/", body), 422, "invalid-input")
    assert Node.objects.filter(pk=node.pk).values().get() == before


def test_a_probe_finds_what_is_new(operator, ollama):
    node = make_node(url=ollama.url, status=Node.Status.UNKNOWN)
    shown = operator.post(f"{PATH}{node.pk}/probe/").json()
    assert shown["status"] == "up"
    assert shown["probed_at"]
    assert NodeModel.objects.filter(node=node, name="tinyllama:latest").exists()


def test_a_probe_of_a_silent_server_says_why(operator):
    node = make_node(url=f"http://127.0.0.1:{free_port()}")
    response = operator.post(f"{PATH}{node.pk}/probe")
    assert response.status_code == 200
    assert response.json()["status"] == "down"
    assert response.json()["status_reason"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["create", "probe"])
def test_no_transaction_is_open_while_a_server_is_asked(operator, ollama, way):
    asked: list[bool] = []
    ollama.app.watch = lambda _: asked.append(is_any_open())
    if way == "create":
        assert operator.post(PATH, {"name": "gpu1", "url": ollama.url}).status_code == 201
    else:
        assert operator.post(f"{PATH}{make_node(url=ollama.url).pk}/probe/").json()["status"] == "up"
    assert len(asked) >= 3
    assert not any(asked)


def test_a_node_that_runs_nothing_is_forgotten(operator):
    node = make_node(models=("tinyllama:latest",))
    assert operator.delete(f"{PATH}{node.pk}/").status_code == 204
    assert not Node.objects.exists()
    assert_problem(operator.get(f"{PATH}{node.pk}/"), 404, "not-found")


def test_a_node_that_runs_a_task_stays(operator):
    node = make_node(models=("tinyllama:latest",))
    task = make_task(operator.user, make_agent(operator.user, content={"model": "tinyllama"}))
    assert_problem(operator.delete(f"{PATH}{node.pk}/"), 409, "node-in-use")
    assert AgentTask.objects.get(pk=task.pk).node == node


def test_the_built_in_node_stays(operator, builtin):
    assert_problem(operator.delete(f"{PATH}{builtin.pk}/"), 409, "node-in-use")
    assert Node.objects.exists()


@pytest.mark.parametrize("person", ["owner", "stranger"])
def test_nodes_are_for_operators(person, request):
    node = make_node()
    client = request.getfixturevalue(person)
    for path in (PATH, f"{PATH}{node.pk}/", f"{PATH}{node.pk}/models/"):
        assert_problem(client.get(path), 403, "not-permitted")
    assert_problem(client.post(PATH, {"name": "n", "url": "x"}), 403, "not-permitted")
    assert_problem(client.post(f"{PATH}{node.pk}/probe/"), 403, "not-permitted")
    assert_problem(client.patch(f"{PATH}{node.pk}/", {"is_draining": True}), 403, "not-permitted")
    assert_problem(client.delete(f"{PATH}{node.pk}/"), 403, "not-permitted")
    node.refresh_from_db()
    assert not node.is_draining


def test_without_credentials_nothing_is_told():
    assert_problem(ApiClient().get(PATH), 401, "not-authenticated")


def test_nodes_are_found_by_their_models(operator):
    found = make_node(models=("tinyllama:latest", "tinydolphin:latest"))
    make_node(models=("qwen3:latest",))
    rows = operator.get(f"{PATH}?search=tiny&kind=ollama&is_draining=false").json()["results"]
    assert [row["name"] for row in rows] == [found.name]


def test_lists_cost_the_same_for_many_rows(operator, django_assert_num_queries):
    node = make_node(models=tuple(f"model-{number}:latest" for number in range(5)))
    for _ in range(4):
        make_node()
    operator.get(PATH)
    with django_assert_num_queries(counting_queries() + 1):
        assert len(operator.get(PATH).json()["results"]) == 5
    with django_assert_num_queries(counting_queries() + 2):
        models = operator.get(f"{PATH}{node.pk}/models/?ordering=-name&is_available=true&is_loaded=false")
        assert [model["name"][6] for model in models.json()["results"]] == list("43210")
