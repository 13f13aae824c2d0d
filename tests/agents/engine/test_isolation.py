"""Suspects, with real processes that really die."""

import multiprocessing
import subprocess
import sys
import threading

import psutil
import pytest
import redis
from django.db import connection

from agents.engine import caretaker, execution, isolation, operations, wakeups
from agents.engine.grant import Ticket
from agents.engine.owners import this_process
from agents.models import AgentTask
from core.ops.processes import ProcessIdentity, is_alive
from tests.agents.engine.factories import MODEL, make_agent, make_node, submit_task, take
from tests.ollama_server.embedded import OllamaTestServer

pytestmark = pytest.mark.django_db(transaction=True)

RUNNER = "import os, django; django.setup(); from agents.engine import execution; import uuid, sys; "
RUNNER += "from agents.engine.process import writer; writer.start(); execution.run(uuid.UUID(sys.argv[1])); "
RUNNER += "import multiprocessing; [child.join() for child in multiprocessing.active_children()]"


@pytest.fixture(autouse=True)
def same_database(monkeypatch):
    """Processes that a test starts use the test's database."""
    url = f"sqlite:///{connection.settings_dict['NAME']}"
    if connection.vendor == "postgresql":
        pytest.skip("one database is enough for what processes do")
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")


@pytest.fixture
def server():
    with OllamaTestServer(models=[MODEL], parallel=2) as server:
        yield server


def suspect(server: OllamaTestServer, message: str) -> AgentTask:
    make_node(MODEL, url=server.url, slots=2)
    task = submit_task(make_agent(), message)
    AgentTask.objects.update(interruptions=operations.SUSPECT_INTERRUPTIONS)
    return task


def start(task: AgentTask) -> threading.Thread:
    def work() -> None:
        try:
            execution.run(task.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_suspect_runs_apart_and_may_prove_innocent(server, started_writer):
    task = suspect(server, "hello")
    start(task).join(60)
    task.refresh_from_db()
    assert task.status == "succeeded"
    assert "hello" in task.result


def test_suspects_share_a_quarantine_and_run_alone_after_it_crashed(server, started_writer, wait_until):
    first = suspect(server, "[[hang]]")
    second = submit_task(make_agent(), "[[hang]]")
    AgentTask.objects.update(interruptions=operations.SUSPECT_INTERRUPTIONS)
    threads = [start(first), start(second)]
    wait_until(lambda: server.stats()["in_flight"] == 2)
    (quarantine,) = multiprocessing.active_children()
    quarantine.kill()
    for thread in threads:
        thread.join(60)
    again = AgentTask.objects.order_by("pk")
    assert [(task.status, task.runner, task.interruptions) for task in again] == [("running", "", 3)] * 2

    threads = [start(first), start(second)]
    wait_until(lambda: server.stats()["in_flight"] == 2)
    one, other = multiprocessing.active_children()
    one.kill()
    wait_until(lambda: not all(thread.is_alive() for thread in threads))
    assert sorted(again.values_list("status", "error_code")) == [("failed", "poison"), ("running", "")]
    other.kill()
    for thread in threads:
        thread.join(60)
    assert set(again.values_list("status", "error_code")) == {("failed", "poison")}


def test_a_suspect_that_was_alone_in_its_quarantine_is_poison(server, started_writer, wait_until):
    task = suspect(server, "[[hang]]")
    thread = start(task)
    wait_until(lambda: server.stats()["in_flight"] == 1)
    (child,) = multiprocessing.active_children()
    child.kill()
    thread.join(60)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "poison")


def test_a_suspect_whose_own_process_is_stopped_is_left_to_the_reaper(server, started_writer, wait_until):
    task = suspect(server, "[[hang]]")
    thread = start(task)
    wait_until(lambda: server.stats()["in_flight"] == 1)
    (child,) = multiprocessing.active_children()
    child.terminate()
    thread.join(60)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("running", "")


def test_when_its_parent_dies_too_nothing_is_proven(server, wait_until):
    task = suspect(server, "[[hang]]")
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(task.pk)]) as runner:
        wait_until(lambda: server.stats()["in_flight"] == 1)
        children = psutil.Process(runner.pid).children(recursive=True)
        names = [str(ProcessIdentity.of(child.pid)) for child in children]
        runner.kill()
    assert len(names) >= 2  # the fork server and the suspect's process
    wait_until(lambda: not any(map(is_alive, names)))
    assert caretaker.free_dead_runners() == 1
    task.refresh_from_db()
    assert (task.status, task.error_code, task.interruptions) == ("running", "", 2)
    wait_until(lambda: server.stats()["in_flight"] == 0)


@pytest.mark.redis
def test_followers_elsewhere_hear_of_what_a_suspect_writes(server, redis_url, tmp_path, monkeypatch):
    task = suspect(server, "hello")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "sutazai.settings")
    monkeypatch.setenv("SUTAZAI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url).pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe(wakeups.CHANNEL)
        news.get_message(timeout=20)  # that it is subscribed
        subprocess.run([sys.executable, "-c", RUNNER, str(task.pk)], check=True, timeout=60)
        message = news.get_message(timeout=20)
    assert message is not None
    assert message["data"] == task.pk.bytes


def test_a_cancelled_suspect_s_process_is_ended(server, started_writer, wait_until):
    task = suspect(server, "[[hang]]")
    thread = start(task)
    wait_until(lambda: server.stats()["in_flight"] == 1)
    assert execution.writer.call(execution.operations.cancel, task.pk)
    thread.join(60)
    wait_until(lambda: multiprocessing.active_children() == [])
    assert AgentTask.objects.get(pk=task.pk).status == "cancelled"


def test_only_suspects_run_apart(server, started_writer, monkeypatch):
    monkeypatch.setattr(isolation, "run_apart", None)
    task = suspect(server, "hello")
    AgentTask.objects.update(interruptions=operations.SUSPECT_INTERRUPTIONS - 1)
    execution.run(task.pk)
    assert AgentTask.objects.get(pk=task.pk).status == "succeeded"


def test_a_process_of_another_fence_leaves_the_task_alone(server):
    task = suspect(server, "hello")
    ticket = take(task, this_process())
    assert execution.execute(Ticket(ticket.task_id, ticket.fence - 1, 0)) is None
    assert AgentTask.objects.get(pk=task.pk).status == "running"
