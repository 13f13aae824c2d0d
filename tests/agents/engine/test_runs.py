import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from django.db import OperationalError, connection
from prometheus_client import REGISTRY

from agents.engine import execution, runs
from agents.engine.grant import Ticket
from agents.engine.runs import Run, Runs, StopReason
from agents.engine.submit import cancel
from agents.models import AgentTask, TaskEvent
from tests.agents.engine.factories import make_agent, make_node, submit_task, take
from tests.ollama_server.embedded import OllamaTestServer

pytestmark = pytest.mark.django_db(transaction=True)

MODEL = "tiny:latest"


class SilentWriter:
    """The writer of a process whose database never answers."""

    def send(self, *change: object) -> "Future[bool]":
        return Future()


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=[MODEL]) as server:
        yield server


@pytest.fixture
def own_runs(monkeypatch) -> Runs:
    """The runs of a process of its own, which a test may close."""
    own = Runs()
    monkeypatch.setattr(execution, "runs", own)
    return own


def start(task: AgentTask) -> threading.Thread:
    def work() -> None:
        try:
            execution.run(task.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("message", ["[[hang]]", "[[t100-stall3]]", "[[t1000-d100]]"])
def test_a_cancelled_run_lets_go_of_the_model_within_two_seconds(message, server, started_writer, wait_until):
    """Also before the answer's headers came, and while the model is silent in the middle of it."""
    make_node(MODEL, url=server.url)
    task = submit_task(make_agent(), message)
    thread = start(task)
    wait_until(lambda: server.stats()["in_flight"] == 1)
    assert cancel(task.pk)
    cancelled_at = time.monotonic()
    wait_until(lambda: server.stats()["in_flight"] == 0)
    thread.join(20)
    assert time.monotonic() - cancelled_at < 2
    assert AgentTask.objects.get(pk=task.pk).status == AgentTask.Status.CANCELLED
    assert TaskEvent.objects.filter(task=task).order_by("number").last().type == "error"


def test_a_stopping_process_gives_its_tasks_back(server, started_writer, own_runs, wait_until):
    make_node(MODEL, url=server.url)
    task = submit_task(make_agent(), "[[hang]]")
    thread = start(task)
    wait_until(lambda: server.stats()["in_flight"] == 1)
    own_runs.close(timeout_seconds=20)
    thread.join(20)
    task.refresh_from_db()
    # Returned, and granted anew for whoever is there to take it.
    assert (task.status, task.runner, task.fence, task.interruptions, task.attempts) == ("running", "", 2, 0, 0)
    assert own_runs.is_closed


def test_a_closed_process_takes_nothing(started_writer, own_runs):
    make_node()
    task = submit_task(make_agent())
    own_runs.close(timeout_seconds=0)
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.runner) == ("running", "")


def test_a_run_that_cannot_renew_its_lease_stops_before_another_may_begin(settings, monkeypatch, wait_until):
    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = 3.0, 0.1
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(runs, "still_held", lambda leases: [True] * len(leases))
    monkeypatch.setattr(runs, "writer", SilentWriter())
    own = Runs()
    run = own.begin(Ticket(make_agent().pk, 1, 0))
    begun_at = time.monotonic()
    wait_until(lambda: run.stop_reason is StopReason.LOST)
    assert 1.9 < time.monotonic() - begun_at < settings.LEASE_SECONDS
    own.end(run)


def test_a_renewal_that_fails_is_tried_again_and_one_that_is_refused_ends_the_run():
    failed, refused = Future(), Future()
    failed.set_exception(OperationalError("away"))
    refused.set_result(False)
    run = Run(Ticket(make_agent().pk, 1, 0))
    was, lost = run.renewed_at, REGISTRY.get_sample_value("sutazai_leases_lost_total")
    run.renewed(was + 1, failed)
    assert (run.renewed_at, run.stop_reason) == (was, None)
    run.renewed(was + 2, refused)
    assert (run.renewed_at, run.stop_reason) == (was, StopReason.LOST)
    assert REGISTRY.get_sample_value("sutazai_leases_lost_total") == lost + 1


def test_a_second_message_finds_nothing_to_do(started_writer):
    make_node()
    task = submit_task(make_agent())
    take(task)
    execution.run(task.pk)  # would block on the node, which does not exist
    assert AgentTask.objects.get(pk=task.pk).runner == "host/1/1"
