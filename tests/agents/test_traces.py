"""One trace from a request to the model server, through every process of the real program."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest
import requests

from tests.ollama_server import OllamaTestProcess
from tests.otlp import Collector, Told
from tests.program import PATIENCE_SECONDS, Program
from tests.services import SERVICE_VARIABLES

PROMPT = "the-canary-that-no-trace-may-tell"


@dataclass
class Group:
    program: Program
    server: OllamaTestProcess
    collector: Collector
    key: str
    database: str

    def post(self, path: str, body: object, trace: str) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {self.key}",
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            "tracestate": "vendor=value",
            "X-Request-Id": f"request-{trace[:8]}",
        }
        return requests.post(self.program.url + path, json=body, headers=headers, timeout=PATIENCE_SECONDS)


SERVERS = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq]
DATABASE = "traces"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=SERVERS)])
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """The program with files alone, and with PostgreSQL, Redis and RabbitMQ."""
    folder = tmp_path_factory.mktemp("program")
    with (
        services() if request.param == "postgresql" else nullcontext({}) as settings,
        Collector() as collector,
        OllamaTestProcess("--model", "tinyllama") as server,
        Program(folder, OLLAMA_HOST=server.url, **collector.environment, **settings) as program,
    ):
        key = program.manage("create_api_key", "--user", "operator")
        yield Group(program, server, collector, key, request.param)


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """The settings of a program with a database of its own."""
    urls = {name: os.environ[variable] for name, variable in SERVICE_VARIABLES.items()}
    with psycopg.connect(urls["postgres"], autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}")
        database = urlsplit(urls["postgres"])._replace(path=f"/{DATABASE}").geturl()
        yield {"DATABASE_URL": database, "REDIS_URL": urls["redis"], "CELERY_BROKER_URL": urls["rabbitmq"]}
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def trace() -> str:
    return uuid.uuid4().hex


def ancestors(spans: list[Told], span: Told) -> list[str]:
    """The names of what a span is a part of, the innermost first."""
    by_id = {one.id: one for one in spans}
    found = []
    while (parent := by_id.get(span.parent)) is not None:
        found.append(parent.name)
        span = parent
    return found


def test_one_trace_leads_through_broker_and_worker_to_the_model_and_the_database(group, trace):
    answer = group.post("/api/v1/chat/", {"message": PROMPT}, trace)
    assert answer.status_code == 200, answer.text
    task_id = answer.json()["task"]
    route = "POST /api/v1/chat"
    found = group.collector.wait_for(route, "send agents.run", "run chat", "POST", "write finish", trace=trace)
    arrival, run, call = found[route], found["run chat"], found["POST"]
    assert (arrival.process, arrival.kind, arrival.parent) == ("web", "server", "00f067aa0ba902b7")
    assert arrival.attributes["http.response.status_code"] == 200
    assert arrival.attributes["sutazai.request.id"] == f"request-{trace[:8]}"
    assert (run.process, run.kind, run.parent) == ("worker", "consumer", arrival.id)
    assert {run.attributes["sutazai.task.id"], arrival.attributes["sutazai.task.id"]} == {task_id}
    assert run.attributes["sutazai.task.status"] == "succeeded"
    assert run.attributes["gen_ai.usage.output_tokens"] > 0
    assert (call.process, call.kind, call.parent) == ("worker", "client", run.id)
    assert found["send agents.run"].kind == "producer"
    assert found["wait for a slot"].parent == arrival.id
    spans = group.collector.spans(trace)
    statements = [span for span in spans if span.attributes.get("db.system.name") == group.database]
    assert {span.process for span in statements} == {"web", "worker"}
    assert all(ancestors(spans, span)[-1] == route for span in statements)
    assert f"00-{trace}-{call.id}-01" in group.server.stats()["traceparents"]


def test_a_run_after_the_death_of_a_worker_belongs_to_the_same_trace(group, trace):
    group.server.control(faults=[{"knobs": "hang", "times": 1}])
    before = group.server.stats()["requests_by_path"].get("/api/chat", 0)
    answer = group.post("/api/v1/tasks/", {"agent": "helper", "input": {"message": PROMPT}}, trace)
    assert answer.status_code == 202, answer.text
    group.server.wait_for(lambda stats: stats["requests_by_path"].get("/api/chat", 0) > before)
    for pid in group.program.pids("worker"):
        os.kill(pid, signal.SIGKILL)
    found = group.collector.wait_for("POST /api/v1/tasks", "run chat", trace=trace)
    assert found["run chat"].attributes["sutazai.task.id"] == answer.json()["task"]
    assert found["run chat"].attributes["sutazai.task.attempt"] == 2
    assert found["run chat"].parent == found["POST /api/v1/tasks"].id


@pytest.mark.parametrize("streams", [False, True])
def test_the_quick_lane_is_one_trace_in_one_process(group, trace, streams):
    body = {"model": "tinyllama", "messages": [{"role": "user", "content": PROMPT}], "stream": streams}
    answer = group.post("/v1/chat/completions", body, trace)
    assert answer.status_code == 200, answer.text
    route = "POST /v1/chat/completions"
    found = group.collector.wait_for(route, "run model_call", "POST", "write submit", "write finish", trace=trace)
    arrival, run, call = found[route], found["run model_call"], found["POST"]
    assert (arrival.kind, arrival.parent) == ("server", "00f067aa0ba902b7")
    assert (run.parent, call.parent) == (arrival.id, run.id)
    assert {span.process for span in found.values()} == {"web"}
    assert arrival.attributes["sutazai.task.id"] == run.attributes["sutazai.task.id"]
    assert arrival.attributes["sutazai.request.id"] == f"request-{trace[:8]}"
    assert "INSERT" in found
    assert f"00-{trace}-{call.id}-01" in group.server.stats()["traceparents"]


def test_a_run_that_fails_says_so(group, trace):
    group.server.control(faults=[{"knobs": "status400", "times": 1}])
    body = {"model": "tinyllama", "messages": [{"role": "user", "content": PROMPT}]}
    assert group.post("/v1/chat/completions", body, trace).status_code >= 400
    found = group.collector.wait_for("POST /v1/chat/completions", "run model_call", "POST", trace=trace)
    assert found["run model_call"].failed
    assert found["POST"].failed
    assert found["POST"].attributes["http.response.status_code"] == 400


def test_health_is_not_traced_and_background_work_begins_no_traces(group, trace):
    requests.get(f"{group.program.url}/health/ready", timeout=PATIENCE_SECONDS)
    group.post("/v1/chat/completions", {}, trace)
    group.collector.wait_for("POST /v1/chat/completions", trace=trace)
    roots = [span for span in group.collector.spans() if not span.parent]
    assert {span.kind for span in roots} <= {"server"}
    assert not any("health" in json.dumps(span.attributes) for span in group.collector.spans())


def test_no_trace_tells_what_was_asked_or_answered_and_no_key(group, trace):
    group.post("/api/v1/chat/", {"message": PROMPT}, trace)
    group.collector.wait_for("POST /api/v1/chat", "run chat", "write finish", trace=trace)
    told = b"".join(group.collector.bodies)
    assert trace[:8].encode() in told  # the request's number: bodies are readable as they stand
    assert PROMPT.encode() not in told
    assert group.key.split("_", 2)[2].encode() not in told
