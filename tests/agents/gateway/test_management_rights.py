"""Who may manage models: keys whose scope names it, of operators and administrators, and nobody else."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from agents.gateway import direct
from agents.gateway.management import ROUTES
from agents.models import Node
from core.access import api_keys, tokens
from core.models import AuditEntry, Role, User, Verb
from tests.asgi import CUT, Answer, call
from tests.factories import make_node, make_user
from tests.ollama_server import OllamaTestServer

pytestmark = pytest.mark.django_db(transaction=True)

ALL_BUT_MODELS = [verb for verb in Verb if verb is not Verb.MODELS]
DIGEST = f"sha256:{'0' * 64}"
FILE = f"/api/blobs/{DIGEST}"
OPERATIONS = [
    (method, path.replace("{digest}", DIGEST))
    for path, methods in ROUTES.items()
    for method in methods
    if method != "HEAD"
]


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as server:
        yield server


@pytest.fixture
def node(server: OllamaTestServer) -> Node:
    return make_node(url=server.url)


@pytest.fixture
def operator() -> User:
    return make_user(role=Role.OPERATOR)


def key_of(person: User, *verbs: Verb, **scope: object) -> str:
    return api_keys.issue(person, "", api_keys.Scope(verbs=verbs, **scope))[1]


def ask(method: str, path: str, credential: str, body: bytes = b"{}", *more: tuple[str, str]) -> Answer:
    headers = [("authorization", f"Bearer {credential}"), *more] if credential else more
    return call(method, f"/ollama{path}", body, headers=headers)


CREDENTIALS = {
    "nobody's": (lambda: "", 401),
    "a stranger's": (lambda: "stz_000000000000_wrong", 401),
    "a viewer's key that names it": (lambda: key_of(make_user(role=Role.VIEWER), Verb.MODELS), 403),
    "a user's key that names it": (lambda: key_of(make_user(role=Role.USER), Verb.MODELS), 403),
    "an operator's key without a scope": (lambda: key_of(make_user(role=Role.OPERATOR)), 403),
    "an operator's key for all else": (lambda: key_of(make_user(role=Role.OPERATOR), *ALL_BUT_MODELS), 403),
    "an administrator's key without a scope": (lambda: key_of(make_user(role=Role.ADMINISTRATOR)), 403),
    "an administrator's token": (lambda: tokens.begin(make_user(role=Role.ADMINISTRATOR)).access, 403),
}


@pytest.mark.parametrize("whose", CREDENTIALS)
def test_others_are_refused_before_anything_is_asked_of_a_node(server, node, whose):
    make, status = CREDENTIALS[whose]
    credential = make()
    for method, path in OPERATIONS:
        answer = ask(method, path, credential, b'{"model": "double", "source": "double", "destination": "second"}')
        assert (answer.status, list(json.loads(answer.body))) == (status, ["error"]), path
        denial = AuditEntry.objects.get(action="access.denied", object_name=f"/ollama{path}")
        assert denial.detail.startswith(f"{method} answered with {status}")
    assert ask("HEAD", FILE, credential).status == status
    assert server.stats()["requests"] == 0


def test_a_denial_names_who_was_refused(node):
    person = make_user(username="ada", role=Role.OPERATOR)
    text = key_of(person)
    ask("POST", "/api/pull", text)
    denial = AuditEntry.objects.get(action="access.denied")
    assert (denial.actor_name, denial.credential) == ("ada", f"api-key {text[:16]}")


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMINISTRATOR])
def test_a_key_that_names_it_may(node, role):
    answer = ask("POST", "/api/pull", key_of(make_user(role=role), Verb.MODELS), b'{"model": "pullable"}')
    assert (answer.status, json.loads(answer.body.splitlines()[-1])) == (200, {"status": "success"})
    assert answer.headers["x-sutazai-node"] == node.name


def test_such_a_key_may_nothing_else(node, operator):
    key = key_of(operator, Verb.MODELS)
    assert ask("POST", "/api/chat", key, b'{"model": "double", "messages": []}').status == 403
    assert ask("GET", "/api/tags", key).status == 403


def test_a_key_for_some_models_manages_these_alone(node, operator):
    key = key_of(operator, Verb.MODELS, model_names=["mine", "double"])
    refused = [
        ("POST", "/api/pull", {"model": "pullable"}),
        ("POST", "/api/push", {"model": "tinyllama"}),
        ("POST", "/api/create", {"model": "new", "from": "double"}),
        ("POST", "/api/create", {"model": "mine", "from": "tinyllama"}),
        ("POST", "/api/copy", {"source": "double", "destination": "other"}),
        ("POST", "/api/copy", {"source": "tinyllama", "destination": "mine"}),
        ("DELETE", "/api/delete", {"model": "tinyllama"}),
    ]
    for method, path, body in refused:
        assert ask(method, path, key, json.dumps(body).encode()).status == 403, body
    assert ask("POST", "/api/copy", key, b'{"source": "double", "destination": "mine"}').status == 200
    assert ask("DELETE", "/api/delete", key, b'{"model": "Mine:latest"}').status == 200


def test_a_key_for_agents_manages_models_only_if_it_may_name_them(server, node, operator):
    refused = key_of(operator, Verb.MODELS, agent_names=["helper"])
    for method, path in OPERATIONS:
        body = b'{"model": "double", "source": "double", "destination": "second"}'
        assert ask(method, path, refused, body).status == 403, path
    assert server.stats()["requests"] == 0
    allowed = key_of(operator, Verb.MODELS, agent_names=["helper", direct.NAME])
    assert ask("POST", "/api/pull", allowed, b'{"model": "pullable"}').status == 200


def test_a_file_has_a_limit_of_its_own(server, node, operator, settings):
    settings.BLOB_BYTES, settings.GATEWAY_BODY_BYTES = 100, 10
    key = key_of(operator, Verb.MODELS)
    fits = b"x" * 100
    address = f"/api/blobs/sha256:{hashlib.sha256(fits).hexdigest()}"
    assert ask("POST", address, key, fits).status == 201
    for length in ([("content-length", "101")], []):
        answer = call(
            "POST", f"/ollama{FILE}", b"x" * 60, b"x" * 41, headers=[("authorization", f"Bearer {key}"), *length]
        )
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert "100 bytes" in json.loads(answer.body)["error"]
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert len(server.app.blobs) == 1


def test_a_file_that_stops_coming_is_given_up(server, node, operator, settings):
    settings.BODY_SECONDS = 0.1
    headers = [("authorization", f"Bearer {key_of(operator, Verb.MODELS)}")]
    answer = call("POST", f"/ollama{FILE}", b"x", b"", headers=headers, is_whole=False)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert call("POST", f"/ollama{FILE}", b"x", CUT, headers=headers).messages == []
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert not server.app.blobs


def test_without_a_node_nothing_can_be_managed(operator):
    answer = ask("POST", "/api/pull", key_of(operator, Verb.MODELS), b'{"model": "pullable"}')
    assert (answer.status, json.loads(answer.body)) == (503, {"error": "There is no model server"})


def test_a_node_that_is_away_is_told(operator):
    make_node(url="http://127.0.0.1:1")
    key = key_of(operator, Verb.MODELS)
    for method, path in OPERATIONS:
        body = b'{"model": "double", "source": "double", "destination": "second", "from": "double"}'
        answer = ask(method, path, key, body)
        assert (answer.status, "Connection refused" in json.loads(answer.body)["error"]) == (503, True), path
    told = AuditEntry.objects.filter(action__startswith="model.").values_list("action", flat=True)
    assert sorted(told) == [f"model.not-{what}" for what in ("copied", "created", "deleted", "pulled", "pushed")]
