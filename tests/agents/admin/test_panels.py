"""What the dashboard says, from real rows."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from agents.admin import panels
from agents.engine import execution
from agents.engine.submit import cancel
from agents.models import AgentTask, Node
from core.models import CircuitBreaker, User, uuid7
from core.ops import clock
from tests.factories import make_agent, make_node, make_task

pytestmark = pytest.mark.both_databases


def snapshot(client: Client) -> dict[str, Any]:
    cache.clear()
    return client.get(reverse("console-dashboard")).json()


def problems(client: Client) -> list[str]:
    return [problem["title"] for problem in snapshot(client)["problems"]]


def figures(client: Client) -> dict[str, str]:
    return {figure["label"]: figure["value"] for figure in snapshot(client)["figures"]}


def chart(client: Client, key: str) -> dict[str, Any]:
    return next(item for item in snapshot(client)["charts"] if item["key"] == key)


def test_the_page_and_the_refresh_show_the_same(console: Client, operator: User) -> None:
    execution.run(make_task(operator).pk)
    first = console.get(reverse("admin:index")).context["snapshot"]
    again = console.get(reverse("console-dashboard")).json()

    assert {**first, "at": ""} == {**again, "at": ""}


def test_without_an_ollama_node_it_says_to_add_one(console: Client) -> None:
    problem = snapshot(console)["problems"][0]

    assert problem["title"] == "No Ollama node is connected"
    assert (problem["action"], problem["url"]) == ("Add a node", reverse("admin:agents_node_add"))
    make_node()
    assert "No Ollama node is connected" not in problems(console)


def test_a_node_that_is_down_stands_first_with_reason_and_moment(console: Client) -> None:
    since = clock.now() - timedelta(minutes=7)
    node = make_node(name="gpu1", is_down=True)
    CircuitBreaker.objects.filter(node=node).update(opened_at=since)

    problem = snapshot(console)["problems"][0]

    assert (problem["level"], problem["title"]) == ("bad", "The node gpu1 is down")
    assert (problem["detail"], problem["since"]) == ("connection refused", since.isoformat())
    assert problem["url"] == reverse("admin:core_circuitbreaker_change", args=[node.breaker_id])


def test_it_counts_waiting_and_running(console: Client, operator: User) -> None:
    make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    for _ in range(3):
        make_task(operator, agent)

    shown = figures(console)

    assert (shown["Running"], shown["Waiting"]) == ("1", "2")


def test_finished_tasks_are_drawn_in_their_minute(console: Client, operator: User) -> None:
    execution.run(make_task(operator).pk)
    cancel(make_task(operator).pk)

    drawn = {series["label"]: series["values"] for series in chart(console, "throughput")["series"]}

    assert (sum(drawn["Succeeded"][-2:]), sum(drawn["Cancelled"][-2:]), sum(drawn["Failed"])) == (1, 1, 0)
    assert len(drawn["Succeeded"]) == 60
    assert chart(console, "errors")["labels"] == ["cancelled"]
    assert figures(console)["Degraded"] == "1"


def test_an_hour_later_they_are_gone(console: Client, operator: User) -> None:
    execution.run(make_task(operator).pk)
    AgentTask.objects.update(finished_at=clock.now() - timedelta(minutes=61))

    assert figures(console)["Finished"] == "0"
    assert chart(console, "throughput")["series"] == []
    assert chart(console, "latency")["series"] == []


def test_latencies_are_measured_from_submission(console: Client, operator: User) -> None:
    task = make_task(operator)
    execution.run(task.pk)
    task.refresh_from_db()
    created_at = task.finished_at - timedelta(seconds=10)
    AgentTask.objects.update(
        created_at=created_at,
        started_at=created_at + timedelta(seconds=2),
        first_output_at=created_at + timedelta(seconds=3),
    )

    drawn = chart(console, "latency")

    assert drawn["labels"] == ["Queue wait", "First token", "Whole answer"]
    assert drawn["series"][0]["values"] == pytest.approx([2, 3, 10])


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([1], 0.95, 1), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.95, 95)],
)
def test_percentiles_are_values_that_occurred(values: Any, share: float, expected: float | None) -> None:
    assert panels.percentile(list(values), share) == expected


def test_failures_of_the_last_minutes_are_a_problem_with_advice(console: Client, operator: User) -> None:
    make_node()
    execution.run(make_task(operator).pk)
    AgentTask.objects.update(status="failed", error_code="connect-failed", error_detail="Nobody there.")

    problem = snapshot(console)["problems"][0]

    assert problem["title"] == "1 of 1 tasks failed in the last 15 minutes"
    assert "Check that Ollama runs there" in problem["detail"]
    assert problem["url"].endswith("?error_code=connect-failed")
    AgentTask.objects.update(finished_at=clock.now() - timedelta(minutes=20))
    assert problems(console) == []


def test_a_grant_that_no_worker_takes_is_a_problem(console: Client, operator: User) -> None:
    make_node()
    make_task(operator)
    assert problems(console) == []

    AgentTask.objects.update(granted_at=clock.now() - timedelta(seconds=20))

    assert problems(console) == ["No worker takes the 1 tasks that have a slot"]


def test_a_queue_without_a_living_node_is_a_problem(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    make_task(operator, agent)
    make_task(operator, agent)
    assert problems(console) == []

    Node.objects.filter(pk=node.pk).update(is_draining=True)

    assert problems(console) == ["Nothing can run 1 task for tinyllama:latest"]


def test_a_queue_that_stands_still_beside_free_slots_is_a_problem(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    make_task(operator, agent)
    waiting = make_task(operator, agent)
    Node.objects.filter(pk=node.pk).update(slots=2)
    AgentTask.objects.filter(pk=waiting.pk).update(created_at=clock.now() - timedelta(minutes=1))

    assert problems(console) == ["Not moving: 1 task for tinyllama:latest"]


def test_a_task_that_waits_for_its_next_try_is_no_problem(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    make_task(operator, agent)
    waiting = make_task(operator, agent)
    Node.objects.filter(pk=node.pk).update(slots=2)
    moments = {"created_at": clock.now() - timedelta(minutes=9), "run_after": clock.now() + timedelta(minutes=1)}
    AgentTask.objects.filter(pk=waiting.pk).update(**moments)

    assert problems(console) == []


def test_a_long_queue_on_busy_slots_is_only_unusual(console: Client, operator: User) -> None:
    make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    make_task(operator, agent)
    waiting = make_task(operator, agent)
    AgentTask.objects.filter(pk=waiting.pk).update(created_at=clock.now() - timedelta(minutes=6))

    assert [(item["level"], item["title"]) for item in snapshot(console)["problems"]] == [
        ("warning", "Waiting long: 1 task for tinyllama:latest")
    ]


def test_many_rows_cost_no_more_queries(console: Client, operator: User, django_assert_max_num_queries) -> None:
    execution.run(make_task(operator).pk)
    task = AgentTask.objects.get()
    copies = [AgentTask.objects.get(pk=task.pk) for _ in range(100)]
    for number, copy in enumerate(copies):
        copy.pk, copy.status = uuid7(), ("succeeded", "failed")[number % 2]
        copy.error_code = "server-error" if number % 2 else ""
    AgentTask.objects.bulk_create(copies)
    for number in range(10):
        make_node(models=(f"model-{number}:latest",))

    with django_assert_max_num_queries(26):
        assert figures(console)["Finished"] == "101"


def test_ten_open_dashboards_cost_as_much_as_one(console: Client, django_assert_max_num_queries) -> None:
    with time_machine.travel(clock.now(), tick=False):  # what was put together is kept for seconds
        snapshot(console)

        with django_assert_max_num_queries(2):  # the browser's session and its user
            console.get(reverse("console-dashboard"))


def test_the_node_table_tells_what_runs_where(console: Client, operator: User) -> None:
    node = make_node(name="gpu1", models=("tinyllama:latest",), slots=3, is_draining=False)
    node.places.update(is_loaded=True)
    make_task(operator, make_agent(operator, content={"model": "tinyllama"}))

    table = next(item for item in snapshot(console)["tables"] if item["key"] == "nodes")

    row = next([cell["text"] for cell in row] for row in table["rows"] if row[0]["text"] == "gpu1")
    assert (row[1], row[3], row[4]) == ("Up", "1 of 3 per model", "tinyllama:latest")
