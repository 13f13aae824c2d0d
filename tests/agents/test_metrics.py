import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

import agents.metrics as engine_metrics
from agents.engine import caretaker, execution, operations, submit
from agents.engine import counts as engine_counts
from agents.engine.process import writer
from agents.engine.transitions import Status
from agents.models import AgentTask, Node
from core.models import CircuitBreaker
from core.net import breakers
from core.ops import metrics
from tests.factories import make_agent, make_builtin_node, make_node, make_session, make_task, make_user
from tests.ollama_server import OllamaTestServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def counted():
    """How much a metric grew during the test: counted(name, label=value, …)."""
    before = {(s.name, *sorted(s.labels.items())): s.value for m in REGISTRY.collect() for s in m.samples}

    def growth(name, **labels):
        value = REGISTRY.get_sample_value(name, labels) or 0
        return value - before.get((name, *sorted(labels.items())), 0)

    return growth


def page():
    """What Prometheus would read: (name, labels) -> value."""
    return read(metrics.page("")[1].decode())


def read(text):
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def run(task):
    execution.run(task.pk)
    task.refresh_from_db()
    return task


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_an_answer_is_counted_with_its_tokens_and_times(counted):
    owner = make_user()
    with OllamaTestServer(models=["tiny"]) as server:
        node = make_node(name="metered", url=server.url, models=("tiny:latest",))
        task = run(make_task(owner, make_agent(owner, content={"model": "tiny"}), message="one two three"))
    assert task.status == "succeeded", task.error_detail
    assert counted("sutazai_tasks_finished_total", kind="chat", status="succeeded", error_code="") == 1
    for direction, number in (("prompt", task.prompt_tokens), ("output", task.output_tokens)):
        labels = {"direction": direction, "node": node.name, "model": "tiny:latest"}
        assert counted("sutazai_tokens_total", **labels) == number > 0
    assert counted("sutazai_task_seconds_count", kind="chat", status="succeeded") == 1
    assert counted("sutazai_task_seconds_sum", kind="chat", status="succeeded") == pytest.approx(
        (task.finished_at - task.created_at).total_seconds()
    )
    labels = {"node": node.name, "model": "tiny:latest"}
    assert counted("sutazai_task_first_token_seconds_sum", kind="chat", **labels) == pytest.approx(
        (task.first_output_at - task.created_at).total_seconds()
    )
    assert counted("sutazai_task_queue_seconds_count", kind="chat", model="tiny:latest") == 1
    assert counted("sutazai_tokens_per_second_count", **labels) == 1
    assert counted("sutazai_tokens_per_second_sum", **labels) == pytest.approx(task.receipt["tokens_per_second"])
    assert counted("sutazai_tasks_degraded_total", kind="chat") == 0


@pytest.mark.django_db(transaction=True)
def test_degraded_and_truncated_answers_are_counted(counted):
    make_builtin_node()
    owner = make_user()
    agent = make_agent(owner, content={"options": {"num_ctx": 100}})
    task = run(make_task(owner, agent, message="word " * 500))
    assert task.is_degraded
    assert task.is_truncated
    assert counted("sutazai_tasks_degraded_total", kind="chat") == 1
    assert counted("sutazai_tasks_truncated_total", kind="chat") == 1


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_task_is_counted_without_what_it_never_had(counted):
    make_node(models=("tiny:latest",), is_draining=True)
    owner = make_user()
    task = make_task(owner, make_agent(owner, content={"model": "tiny"}))
    assert submit.cancel(task.pk)
    assert not submit.cancel(task.pk)
    assert counted("sutazai_tasks_finished_total", kind="chat", status="cancelled", error_code="cancelled") == 1
    assert counted("sutazai_task_queue_seconds_count", kind="chat", model="tiny:latest") == 0
    assert counted("sutazai_task_first_token_seconds_count", kind="chat", node="", model="tiny:latest") == 0


@pytest.mark.django_db(transaction=True)
def test_retries_and_interruptions_are_counted_and_graceful_stops_are_not(counted):
    make_builtin_node()
    owner = make_user()
    task = make_task(owner)
    for counts in ("attempts", "interruptions", None):
        task.refresh_from_db()
        writer.call(operations.take, operations.Take(task.pk, "runner"))
        assert writer.call(operations.send_back, operations.SendBack(task.pk, task.fence, "why", counts=counts))
    assert counted("sutazai_task_retries_total", kind="chat") == 1
    assert counted("sutazai_task_interruptions_total", kind="chat") == 1
    assert counted("sutazai_tasks_finished_total", kind="chat", status="succeeded", error_code="") == 0


@pytest.mark.django_db(transaction=True)
def test_a_load_of_a_model_is_counted_and_a_wait_in_vain(counted):
    owner = make_user()
    with OllamaTestServer(models=["tiny"], load_seconds=engine_metrics.LOAD_SECONDS) as server:
        node = make_node(name="loading", url=server.url, models=("tiny:latest",), gap_timeout_seconds=1)
        agent = make_agent(owner, content={"model": "tiny"})
        for _ in range(2):
            assert run(make_task(owner, agent)).status == "succeeded"
        run(make_task(owner, agent, message="[[t9-stall3]]"))
    assert counted("sutazai_model_loads_total", node=node.name, model="tiny:latest") == 1
    assert counted("sutazai_timeouts_total", error_code="gap-timeout") == 1


@pytest.mark.django_db(transaction=True)
def test_what_the_caretaker_does_is_counted(counted):
    make_builtin_node()
    owner = make_user()
    silent, late = make_task(owner), make_task(owner)
    past = timezone.now() - timedelta(minutes=1)
    AgentTask.objects.filter(pk=silent.pk).update(runner="elsewhere", lease_until=past)
    AgentTask.objects.filter(pk=late.pk).update(deadline_at=past)
    caretaker.reap()
    assert counted("sutazai_reaper_actions_total", action="taken-from-a-silent-runner") == 1
    assert counted("sutazai_reaper_actions_total", action="ended-at-its-deadline") == 1


@pytest.mark.django_db
def test_what_was_not_committed_is_not_counted(counted):
    make_builtin_node()
    task = make_task(make_user())
    assert submit.cancel(task.pk)  # in the test's own transaction, which never commits
    assert counted("sutazai_tasks_finished_total", kind="chat", status="cancelled", error_code="cancelled") == 0


@pytest.mark.django_db
def test_the_rows_are_read_when_prometheus_asks():
    node = make_node(name="one", models=("tiny:latest",), slots=1)
    make_node(name="two", status=Node.Status.DOWN)
    owner = make_user()
    agent = make_agent(owner, content={"model": "tiny"})
    for _ in range(3):
        waiting = make_task(owner, agent)
    AgentTask.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    make_session(owner, agent)
    make_session(owner, agent, closed_at=timezone.now())
    values = page()
    assert values["sutazai_node_breaker_open_seconds", ("node", "one")] == 0
    assert values["sutazai_tasks_running", ("model", "tiny:latest"), ("node", node.name)] == 1
    assert values["sutazai_tasks_queued", ("model", "tiny:latest")] == 2
    assert 300 <= values["sutazai_oldest_queued_seconds", ("model", "tiny:latest")] < 400
    assert values["sutazai_node_up", ("node", "one")] == 1
    assert values["sutazai_node_up", ("node", "two")] == 0
    assert values["sutazai_chat_sessions_open",] == 1
    assert values["sutazai_workers",] == 0


@pytest.mark.django_db
@pytest.mark.both_databases
def test_only_a_wait_that_somebody_minds_counts_as_one():
    make_node(models=("tiny:latest", "other:latest", "third:latest"), slots=1, is_draining=True)
    owner, now = make_user(), timezone.now()

    def wait(model, minutes, **fields):
        task = make_task(owner, make_agent(owner, content={"model": model}))
        AgentTask.objects.filter(pk=task.pk).update(created_at=now - timedelta(minutes=minutes), **fields)

    wait("tiny", 10)
    wait("tiny", 90, priority=AgentTask.Priority.BACKGROUND)
    wait("tiny", 80, run_after=now + timedelta(minutes=1))  # its turn comes later
    wait("tiny", 70, run_after=now - timedelta(minutes=5))  # it ran for an hour, and may run again
    wait("other", 60, run_after=now - timedelta(minutes=20))
    wait("third", 50, priority=AgentTask.Priority.BACKGROUND)
    values = page()
    waits = {key[1][1]: value for key, value in values.items() if key[0] == "sutazai_oldest_queued_seconds"}
    assert {model: round(seconds / 60) for model, seconds in waits.items()} == {"tiny:latest": 10, "other:latest": 20}
    assert values["sutazai_tasks_queued", ("model", "tiny:latest")] == 4
    assert values["sutazai_tasks_queued", ("model", "third:latest")] == 1


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_waiting_are_found_by_an_index():
    make_builtin_node()
    owner = make_user()
    agent = make_agent(owner)
    make_task(owner, agent)
    with CaptureQueriesContext(connection) as captured:
        list(engine_metrics._waiting(timezone.now()))
    (looking,) = [query["sql"] for query in captured]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # a table of one row is read whole
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{looking}")
        plan = " ".join(str(row) for row in cursor.fetchall())
    assert "queue_of_model" in plan or "tasks_by_status" in plan


@pytest.mark.django_db
@pytest.mark.both_databases
def test_a_breaker_that_stays_open_is_told_by_its_node():
    operator = make_user()
    node, held = make_node(name="one"), make_node(name="two")
    for each in (node, held):
        breakers.trip(each.breaker_id, by=operator)
        since = timezone.now() - timedelta(minutes=5)
        CircuitBreaker.objects.filter(pk=each.breaker_id).update(opened_at=since, state=CircuitBreaker.State.HALF_OPEN)
    breakers.hold(held.breaker_id, CircuitBreaker.Forced.OPEN, by=operator, reason="it is moved")
    values = page()
    assert 300 <= values["sutazai_node_breaker_open_seconds", ("node", "one")] < 400
    assert values["sutazai_node_breaker_open_seconds", ("node", "two")] == 0
    breakers.reset(node.breaker_id, by=operator)
    assert page()["sutazai_node_breaker_open_seconds", ("node", "one")] == 0


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_cost_of_a_scrape_does_not_grow(django_assert_max_num_queries):
    owner = make_user()
    agent = make_agent(owner, content={"model": "tiny"})
    make_node(models=("tiny:latest",), slots=3)
    for _ in range(6):
        make_task(owner, agent)
    for _ in range(4):
        make_node()
    with django_assert_max_num_queries(12):
        page()


def test_no_label_names_a_person():
    metrics = [*vars(engine_metrics).values(), *vars(engine_counts).values()]
    labels = {name for metric in metrics for name in getattr(metric, "_labelnames", ())}
    assert labels == {"kind", "status", "error_code", "direction", "node", "model", "action"}


WORKER = """
import django, os, sys
django.setup()
from agents.engine import execution, submit
from agents.models import Agent
agent = Agent.objects.get()
for number in range(5):
    task = submit.submit(agent=agent, owner=agent.owner, input={"message": f"{sys.argv[1]} {number}"})
    execution.run(task.task_id)
print("done", flush=True)
sys.stdin.read()
"""
READER = """
import django
django.setup()
from core.ops import metrics
print(metrics.page("")[1].decode())
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the processes share the file")
def test_what_two_processes_counted_is_added_up_whoever_is_asked_and_after_they_died(tmp_path):
    make_builtin_node()
    make_agent()
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
    }

    def start(script, *arguments):
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def total():
        text, _ = start(READER).communicate()
        values = read(text)
        labels = (("kind", "chat"), ("status", "succeeded"))
        assert values["sutazai_task_seconds_count", *labels] == values["sutazai_tasks_degraded_total", labels[0]]
        return values["sutazai_tasks_finished_total", ("error_code", ""), *labels]

    workers = [start(WORKER, name) for name in ("first", "second")]
    for worker in workers:
        assert worker.stdout.readline() == "done\n"
    assert AgentTask.objects.filter(status=Status.SUCCEEDED).count() == 10
    assert total() == 10
    workers[0].send_signal(signal.SIGKILL)
    for worker in workers:
        worker.communicate()
    assert total() == 10
