import io
import json
import logging
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.models import F

from agents import kinds
from agents.engine import discovery, endings, execution
from agents.kinds.chat import Chat
from agents.models import AgentTask, Node
from agents.ollama.types import ChatChunk
from core.logs import JsonFormatter
from core.models import CircuitBreaker
from tests.agents.engine.factories import MODEL, make_agent, make_node, submit_task
from tests.agents.engine.invariants import Snapshot, check
from tests.ollama_server.embedded import OllamaTestServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server():
    with OllamaTestServer(models=[MODEL]) as server:
        yield server


class Failing(Chat):
    """A kind that yields a piece and then fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, work):
        yield ChatChunk(text="half an ans")
        raise self.error


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> AgentTask:
    monkeypatch.setitem(kinds.KINDS, "chat", Failing(error))
    make_node()
    task = submit_task(make_agent())
    execution.run(task.pk)
    task.refresh_from_db()
    return task


def test_a_database_that_is_away_fails_no_task(monkeypatch):
    task = fail_with(monkeypatch, OperationalError("server closed the connection"))
    assert (task.status, task.error_code, task.attempts) == ("running", "", 0)
    assert task.lease_until is not None  # which will run out


def test_a_kind_that_breaks_fails_its_task_without_telling_why_to_the_world(monkeypatch, started_writer):
    task = fail_with(monkeypatch, ZeroDivisionError("secret"))
    assert (task.status, task.error_code) == ("failed", "internal-error")
    assert "secret" not in task.error_detail
    check(Snapshot.read())


def test_the_log_of_a_failure_is_one_line_that_names_the_task_and_no_secret(monkeypatch, started_writer):
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter())
    monkeypatch.setattr(endings.logger, "handlers", [handler])
    task = fail_with(monkeypatch, ZeroDivisionError("password=canary"))
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert {line["task_id"] for line in lines} == {str(task.pk)}
    (failure,) = (line for line in lines if "exception" in line)
    assert "ZeroDivisionError: password=***" in failure["exception"]
    assert "canary" not in output.getvalue()


def test_an_answer_cut_short_is_tried_again_and_never_succeeds(server, started_writer):
    node = make_node(MODEL, url=server.url)
    task = submit_task(make_agent(), "[[t50-cut3]]")
    for attempt in range(1, 10):
        execution.run(task.pk)
        task.refresh_from_db()
        if task.is_finished:
            break
        assert (task.status, task.attempts) == ("queued", attempt)
        assert task.run_after is not None
        AgentTask.objects.update(run_after=None)
        execution.writer.call(execution.operations.grant_waiting, MODEL)
    assert task.status == "failed"
    assert task.result is None
    check(Snapshot.read())
    assert Node.objects.get(pk=node.pk).status == Node.Status.UP


def test_a_node_that_is_gone_is_found_out_and_the_task_waits(started_writer, wait_until):
    node = make_node(MODEL, url="http://127.0.0.1:1")
    task = submit_task(make_agent())
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.attempts) == ("queued", 1)
    discovery.probe_due()
    wait_until(lambda: CircuitBreaker.objects.get(node=node).is_shut)
    assert Node.objects.get(pk=node.pk).status == Node.Status.DOWN


def test_a_model_that_was_deleted_on_its_node_is_not_asked_for_there_again(server, started_writer):
    node = make_node("deleted:latest", url=server.url)
    task = submit_task(make_agent(model="deleted:latest"))
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "model-not-found")
    assert not node.places.get().is_available
    assert Node.objects.get(pk=node.pk).status == Node.Status.UP


def test_a_model_that_was_deleted_on_its_node_is_asked_for_on_another(server, started_writer):
    node = make_node("deleted:latest", url=server.url)
    task = submit_task(make_agent(model="deleted:latest"))
    other = make_node("deleted:latest")
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.attempts, task.node_id) == ("running", 1, other.pk)
    assert task.avoided_node_id == node.pk


def test_a_task_past_its_deadline_expires_in_the_middle_of_its_answer(server, started_writer):
    make_node(MODEL, url=server.url)
    task = submit_task(make_agent(), "[[t1000-d50]]")
    AgentTask.objects.update(deadline_at=F("created_at") + timedelta(seconds=0.5))
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("expired", "deadline-passed")
    assert [event.type for event in task.events.order_by("number")][2] == "delta"
    check(Snapshot.read())


def test_one_thread_runs_all_that_waits_for_its_slot(server, started_writer):
    make_node(MODEL, url=server.url, slots=1)
    agent = make_agent()
    tasks = [submit_task(agent, f"question {number}") for number in range(5)]
    execution.run(tasks[0].pk)
    assert list(AgentTask.objects.values_list("status", flat=True)) == ["succeeded"] * 5
    ended = AgentTask.objects.order_by("finished_at")
    assert [task.pk for task in ended] == [task.pk for task in tasks]
    check(Snapshot.read())
