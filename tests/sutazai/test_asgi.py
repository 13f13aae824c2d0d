"""What the dispatcher does before and after Django: the protocol's messages in, the protocol's messages out."""

import json
import threading
import uuid
from collections.abc import Callable

import pytest
from django.db import OperationalError, connection
from prometheus_client import REGISTRY

from agents.engine import follow, operations
from agents.engine.submit import cancel
from agents.models import AgentTask
from core.access import api_keys, watch
from core.api import audit, shedding
from core.models import ApiKey, AuditEntry, User
from core.ops import metrics
from sutazai import asgi
from tests.asgi import CUT, Answer, call
from tests.factories import make_agent, make_api_key, make_builtin_node, make_operator

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key() -> str:
    operator = make_operator()
    make_builtin_node()
    make_agent(operator, name="helper", content={"allows_builtin_fallback": True})
    return make_api_key(operator)


def authorized(key: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}"), ("content-type", "application/json"), *more]


def test_health_needs_no_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = call("GET", "/health")
    assert answer.status == 200
    assert json.loads(answer.body)["status"] == "ok"


@pytest.mark.parametrize(
    "asked",  # method, address, name of the route, status, type of the error
    [
        ("GET", "/health", "health", 200, ""),
        ("GET", "/api/health/ready/", "health-ready", None, ""),
        ("GET", "/api/v1/agents/", "agent-list", 200, ""),
        ("GET", f"/api/v1/tasks/{uuid.uuid4()}/", "task-detail", 404, "not-found"),
        ("DELETE", "/api/v1/agents/", "agent-list", 405, "method-not-allowed"),
        ("POST", "/api/v1/chat/", "chat", 422, "invalid-input"),
        ("GET", "/metrics", "metrics", 200, ""),
        ("GET", "/admin/", "admin:index", 302, ""),
        ("OPTIONS", "/api/v1/queue", "queue", 200, ""),  # answered before any view
        ("GET", "/api/v1/secret-7f3a", "unknown", 404, "not-found"),
        ("GET", "/" + "long" * 3000, "unknown", 414, "address-too-long"),
        ("GET", "/v1/models", "/v1/models", 200, ""),
        ("GET", "/v1/models/secret-7f3a", "/v1/models/{name*}", 404, "model-not-found"),
        ("POST", "/ollama/api/chat", "/ollama/api/chat", 400, "http-400"),
        ("GET", "/ollama/api/chat", "/ollama/api/chat", 405, "http-405"),
        ("GET", "/ollama/secret-7f3a", "unknown", 404, "http-404"),
    ],
)
def test_requests_are_counted_by_the_names_of_their_routes(key, asked):
    method, path, endpoint, status, error_type = asked

    def counted(name, **labels):
        return REGISTRY.get_sample_value(name, {"method": method, "endpoint": endpoint, **labels}) or 0

    def failed():
        return counted("api_errors_total", error_type=error_type, fault="client")

    def figures():
        labels = {"status": str(status)}
        return counted("api_request_total", **labels), counted("api_request_duration_seconds_count", **labels)

    preflight = [("origin", "https://elsewhere.test"), ("access-control-request-method", "GET")]
    headers = authorized(key, *(preflight if method == "OPTIONS" else []))
    status = status or call(method, path, headers=headers).status
    before, failed_before = figures(), failed()
    assert call(method, path, headers=headers).status == status
    assert figures() == (before[0] + 1, before[1] + 1)
    assert failed() == failed_before + bool(error_type)
    assert "7f3a" not in metrics.page("")[1].decode()


def test_a_body_larger_than_allowed_is_refused_while_it_comes(key):
    part = b"x" * 2**20
    answer = call("POST", "/api/v1/chat/", *[part] * 10, headers=authorized(key, ("x-request-id", "request-17")))
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == 413
    assert problem["code"] == "body-too-large"
    assert problem["instance"] == "/api/v1/chat/"
    assert problem["request_id"] == answer.headers["x-request-id"] == "request-17"
    assert answer.headers["connection"] == "close"
    assert not AgentTask.objects.exists()


def test_a_body_in_parts_without_a_length_is_read_whole(key):
    headers = authorized(key, ("transfer-encoding", "chunked"), ("prefer", "respond-async"))
    answer = call("POST", "/api/v1/chat/", b'{"mess', b'age": "he', b'llo"}', headers=headers)
    assert answer.status == 202
    assert AgentTask.objects.get().input == {"message": "hello"}


def test_a_request_that_is_cut_off_does_nothing(key):
    """What came of it may make sense by itself, and mean something else."""
    parts = b'{"message": "hello"}', CUT
    labels = {"method": "POST", "endpoint": "chat", "status": "499"}
    before = REGISTRY.get_sample_value("api_request_total", labels) or 0
    assert call("POST", "/api/v1/chat/", *parts, headers=authorized(key)).messages == []
    assert REGISTRY.get_sample_value("api_request_total", labels) == before + 1
    assert not AgentTask.objects.exists()


def test_a_header_with_an_underscore_stands_for_no_other(key):
    answer = call("GET", "/api/v1/agents/", headers=[("authorization_", "x"), ("http_authorization", f"Bearer {key}")])
    assert answer.status == 401


def test_a_stream_ends_with_the_task_and_names_it_first(key):
    def cancel_it(answer: Answer) -> None:
        cancel(AgentTask.objects.get().pk)

    answer = call(
        "POST", "/api/v1/chat/", b'{"message": "hello", "stream": true}', headers=authorized(key), on_body=cancel_it
    )
    first, *_, last = answer.body.decode().strip().split("\n\n")
    task = AgentTask.objects.get()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert first.startswith("id: 1\nevent: state\n")
    assert json.loads(first.split("data: ")[1])["task"] == str(task.pk)
    assert "event: error\n" in last
    assert not [name for name in answer.headers if name.startswith("x-sutazai")]


def test_a_client_who_leaves_is_followed_by_nobody_and_the_task_goes_on(key, wait_until):
    call(
        "POST",
        "/api/v1/chat/",
        b'{"message": "hello", "stream": true}',
        headers=authorized(key),
        on_body=lambda _: True,
    )
    wait_until(lambda: not follow.reader._followers)
    assert not AgentTask.objects.get().is_finished


@pytest.mark.parametrize("body", [b'{"message": "hello", "stream": true}', b'{"message": "hello"}'])
def test_a_wait_ends_with_the_right_to_it_and_the_task_goes_on(key, body, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    answer = call_ended_by(lambda: api_keys.revoke(ApiKey.objects.all()), key, body)
    if b"stream" in body:
        assert answer.status == 200
        assert b"event: done" not in answer.body
    else:
        assert json.loads(answer.body)["code"] == "not-authenticated"
        assert answer.status == 401
    assert not AgentTask.objects.get().is_finished


@pytest.mark.parametrize(
    "ending", [lambda: api_keys.revoke(ApiKey.objects.all()), lambda: User.objects.update(is_active=False)]
)
def test_who_may_not_have_an_awaited_answer_any_more_is_told_in_the_audit_log(key, ending, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    answer = call_ended_by(ending, key)
    entry = AuditEntry.objects.get(action="access.denied")
    assert (entry.actor_name, entry.object_name) == (User.objects.get().username, "/api/v1/chat/")
    assert entry.credential == f"api-key stz_{ApiKey.objects.get().key_id}"
    assert (entry.address, entry.request_id) == ("127.0.0.1", answer.headers["x-request-id"])
    assert entry.detail == "POST answered with 401 not-authenticated"


def test_who_is_signed_out_is_told_so_although_nobody_can_write_it_down(key, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OperationalError("the database is gone")

    def end_it() -> None:
        api_keys.revoke(ApiKey.objects.all())
        monkeypatch.setattr(audit, "_origin_of_holder", fail)

    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    assert call_ended_by(end_it, key).status == 401
    assert not AuditEntry.objects.filter(action="access.denied").exists()


@pytest.mark.parametrize(("code", "status"), [("cancelled", 409), ("deadline-passed", 504), ("connect-failed", 502)])
def test_who_waits_for_an_answer_is_told_why_there_is_none(key, code, status, monkeypatch):
    monkeypatch.setattr(operations, "CANCELLED", (code, "It ended."))
    cancelling: list[uuid.UUID] = []

    def end_it() -> None:
        task = AgentTask.objects.first()
        if task and not cancelling:
            cancelling.append(task.pk)
            cancel(task.pk)

    follow.reader.start()
    answer = call_ended_by(end_it, key)
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == status
    assert problem["code"] == code
    assert problem["task"] == str(cancelling[0])


def test_who_waits_while_the_database_goes_away_is_told_to_ask_later(key, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OperationalError("the database is gone")

    monkeypatch.setattr(AgentTask.objects, "select_related", fail)
    answer = call_ended_by(lambda: [cancel(task.pk) for task in AgentTask.objects.all()], key)
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (503, "database-unavailable")
    assert problem["task"] == str(AgentTask.objects.get().pk)
    assert int(answer.headers["retry-after"]) > 0


def call_ended_by(end_it: Callable[[], object], key: str, body: bytes = b'{"message": "hello"}') -> Answer:
    """Wait for an answer while something else ends the task."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.02):
            if AgentTask.objects.exists():
                end_it()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        return call("POST", "/api/v1/chat/", body, headers=authorized(key))
    finally:
        done.set()
        thread.join()


def test_a_request_that_finds_no_thread_is_told_when_to_come_again(monkeypatch):
    threads = shedding.Threads(1, patience=0.01)
    monkeypatch.setattr(asgi, "_threads", threads)
    monkeypatch.setattr(threads, "_has_one_for", lambda _: False)
    for method, path, endpoint in (
        ("POST", "/api/v1/chat/", "chat"),
        ("GET", "/api/v1/tasks/", "task-list"),
        ("GET", "/admin/", "admin:index"),
        ("GET", "/nowhere", "unknown"),
    ):
        labels = {"method": method, "endpoint": endpoint, "error_type": "busy", "fault": "server"}
        before = REGISTRY.get_sample_value("api_errors_total", labels) or 0
        answer = call(method, path, b"{}")
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert "connection" not in answer.headers
        assert REGISTRY.get_sample_value("api_errors_total", labels) == before + 1
    assert call("GET", "/health").status == 200
