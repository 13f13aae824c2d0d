"""The program with two nodes: long lists of texts are shared between them, and changes of models name one of them."""

import http.client
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import requests

from tests.ollama_server import OllamaTestProcess, answers
from tests.program import PATIENCE_SECONDS, Program, wait_for

MODELS = ("--model", "embedder", "--model", "tinyllama")
DIMENSIONS = 64
PART = 4
TEXTS = [f"text number {number}" for number in range(30)]
TASKS = 8


@dataclass(frozen=True)
class Pool:
    """The program, the model servers behind it, and an operator's keys: one for calls, one for models."""

    program: Program
    servers: tuple[OllamaTestProcess, OllamaTestProcess]
    key: str
    manager: str

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Authorization": f"Bearer {self.key}", **spelled}
        return requests.request(method, self.program.url + path, json=body, headers=given, timeout=PATIENCE_SECONDS)

    def embed(self, texts: list[str], *, cache: str = "no", **headers: str) -> requests.Response:
        body = {"model": "embedder", "input": texts}
        return self.ask("POST", "/ollama/api/embed", body, X_SutazAI_Cache=cache, **headers)

    def task(self, task_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/v1/tasks/{task_id}/").json()

    def unfinished(self) -> list[dict[str, Any]]:
        asked = (self.ask("GET", f"/api/v1/tasks/?status={status}") for status in ("queued", "running"))
        return [row for answer in asked for row in answer.json()["results"]]

    def manage(self, method: str, path: str, body: Any, **headers: str) -> requests.Response:
        return self.ask(method, f"/ollama/api/{path}", body, Authorization=f"Bearer {self.manager}", **headers)


@pytest.fixture(scope="module", params=["quick", "celery"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with (
        OllamaTestProcess("--parallel", "8", *MODELS) as first,
        OllamaTestProcess("--parallel", "8", *MODELS) as second,
        Program(
            tmp_path_factory.mktemp("two-nodes"),
            OLLAMA_HOST=first.url,
            SUTAZAI_GATEWAY_LANE=request.param,
            SUTAZAI_EMBEDDING_PART=str(PART),
            SUTAZAI_NODE_SLOTS="2",
        ) as program,
    ):
        program.manage("register_node", "--name", "second", "--url", second.url)
        key = program.manage("create_api_key", "--user", "operator")
        manager = program.manage("create_api_key", "--user", "operator", "--verbs", "models")
        yield Pool(program, (first, second), key, manager)


@pytest.fixture(autouse=True)
def as_before(pool: Pool) -> None:
    for server in pool.servers:
        if server.is_alive:
            server.control(reset=True)


def vectors_of(texts: list[str]) -> list[list[float]]:
    return [pytest.approx(answers.vector(text, DIMENSIONS), abs=1e-6) for text in texts]


def started(server: OllamaTestProcess) -> set[str]:
    return set(server.stats()["prompts_started"])


def test_a_long_list_is_shared_and_put_together_in_order(pool):
    response = pool.embed(TEXTS)
    body = response.json()
    assert body["embeddings"] == vectors_of(TEXTS)
    assert body["prompt_eval_count"] == sum(map(answers.count_tokens, TEXTS))
    shares = [started(server) for server in pool.servers]
    assert all(shares)
    assert shares[0] | shares[1] == set(TEXTS)
    assert not shares[0] & shares[1]
    told = body["sutazai"]
    assert len(set(told["tasks"])) == TASKS
    assert told["tasks"][0] == told["task"] == response.headers["X-SutazAI-Task"]
    assert set(told["node"].split(", ")) == {"ollama", "second"}
    assert response.headers["X-SutazAI-Node"] == told["node"]
    assert [pool.task(task)["input"]["input"][0] for task in told["tasks"]] == TEXTS[::PART]
    assert pool.ask("GET", f"/v1/responses/resp_{uuid.UUID(told['task']).hex}").status_code == 404


def test_a_list_that_fits_is_one_task(pool):
    told = pool.embed(TEXTS[:PART]).json()["sutazai"]
    assert "tasks" not in told
    assert told["node"] in {"ollama", "second"}


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_openai_s_format_too(pool, encoding):
    with openai.OpenAI(base_url=f"{pool.program.url}/v1", api_key=pool.key, max_retries=0) as client:
        raw = client.embeddings.with_raw_response.create(model="embedder", input=TEXTS, encoding_format=encoding)
        answer = raw.parse() if encoding == "float" else client.embeddings.create(model="embedder", input=TEXTS)
    assert [row.index for row in answer.data] == list(range(len(TEXTS)))
    assert [row.embedding for row in answer.data] == vectors_of(TEXTS)
    assert answer.usage.prompt_tokens == sum(map(answers.count_tokens, TEXTS))
    assert len(answer.model_extra["sutazai"]["tasks"]) == TASKS


def test_the_same_request_again_asks_nobody(pool):
    key = str(uuid.uuid4())
    first = pool.embed(TEXTS, Idempotency_Key=key).json()
    asked = [server.stats()["requests"] for server in pool.servers]
    again = pool.embed(TEXTS, Idempotency_Key=key).json()
    assert again["embeddings"] == first["embeddings"]
    assert again["sutazai"]["tasks"] == first["sutazai"]["tasks"]
    assert [server.stats()["requests"] for server in pool.servers] == asked
    assert pool.embed(TEXTS[1:], Idempotency_Key=key).status_code == 422


def test_parts_are_given_again_from_the_cache(pool):
    first = pool.embed(TEXTS, cache="yes").json()
    again = pool.embed(TEXTS, cache="yes")
    assert again.json()["embeddings"] == first["embeddings"]
    assert again.json()["prompt_eval_count"] == first["prompt_eval_count"]
    assert again.headers["X-SutazAI-Cache"] == again.json()["sutazai"]["cache"] == "hit"
    assert not set(again.json()["sutazai"]["tasks"]) & set(first["sutazai"]["tasks"])
    for server in pool.servers:
        server.control(reset=True)
    changed = [*TEXTS[: PART + 1], "another text", *TEXTS[PART + 2 :]]
    mixed = pool.embed(changed, cache="yes")
    assert mixed.json()["embeddings"] == vectors_of(changed)
    assert "X-SutazAI-Cache" not in mixed.headers
    assert len(set(mixed.json()["sutazai"]["tasks"])) == TASKS
    assert started(pool.servers[0]) | started(pool.servers[1]) == set(changed[PART : 2 * PART])


def test_a_part_that_fails_fails_the_call_and_ends_the_others(pool):
    texts = [f"[[hang]] {text}" for text in TEXTS]
    texts[PART - 1] = "[[status400]] this one"
    response = pool.embed(texts)
    assert (response.status_code, response.json()) == (400, {"error": "status 400 on demand"})
    wait_for(lambda: not pool.unfinished(), "the others are ended")
    for server in pool.servers:
        server.wait_for(lambda stats: stats["in_flight"] == 0)


def test_a_client_that_leaves_ends_all_parts(pool):
    body = json.dumps({"model": "embedder", "input": [f"[[hang]] {text}" for text in TEXTS]})
    headers = {"Authorization": f"Bearer {pool.key}"}  # and no wish about the cache
    with closing(http.client.HTTPConnection("127.0.0.1", pool.program.port)) as client:
        client.request("POST", "/ollama/api/embed", body, headers)
        for server in pool.servers:
            server.wait_for(lambda stats: stats["in_flight"] > 0)
    wait_for(lambda: not pool.unfinished(), "all parts are ended")
    for server in pool.servers:
        server.wait_for(lambda stats: stats["in_flight"] == 0)
        assert server.stats()["aborted"] > 0


def test_changes_of_models_name_their_node(pool):
    refused = pool.manage("POST", "pull", {"model": "pullable"})
    assert refused.status_code == 400
    assert refused.json()["error"].endswith("The nodes are: ollama, second.")
    pulled = pool.manage("POST", "pull", {"model": "pullable", "stream": False}, X_SutazAI_Node="second")
    assert (pulled.json(), pulled.headers["X-SutazAI-Node"]) == ({"status": "success"}, "second")
    assert pool.ask("POST", "/ollama/api/show", {"model": "pullable"}).ok
    copied = pool.manage("POST", "copy", {"source": "tinyllama", "destination": "mine"})
    assert copied.headers["X-SutazAI-Node"] == "ollama, second"
    assert pool.manage("DELETE", "delete", {"model": "mine"}).headers["X-SutazAI-Node"] == "ollama, second"
    assert pool.manage("DELETE", "delete", {"model": "pullable"}).headers["X-SutazAI-Node"] == "second"
    assert pool.manage("DELETE", "delete", {"model": "pullable"}).status_code == 404


def test_a_node_that_dies_in_the_middle_changes_nothing(pool):
    """The last test here: the second node stays dead."""
    second = pool.servers[1]
    second.control(faults=[{"knobs": "hang", "path": "/api/embed"}])
    with ThreadPoolExecutor(1) as threads:
        call: Future[requests.Response] = threads.submit(pool.embed, TEXTS)
        second.wait_for(lambda stats: stats["in_flight"] > 0)
        second.process.kill()
        body = call.result().json()
    assert body["embeddings"] == vectors_of(TEXTS)
    assert body["sutazai"]["node"] == "ollama"
    assert body["prompt_eval_count"] == sum(map(answers.count_tokens, TEXTS))
