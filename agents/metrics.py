"""What the engine counts, and what it can be asked for. No label names a person."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agents.engine import hints
from agents.engine.statements import Change
from agents.models import AgentTask, ChatSession, Node
from core.cursors import observe_all
from core.models import CircuitBreaker
from core.ops import metrics

LOAD_SECONDS = 0.5  # a model that is there already answers sooner
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

finished = Counter("sutazai_tasks_finished", "Tasks that ended.", ["kind", "status", "error_code"])
duration = Histogram("sutazai_task_seconds", "From acceptance to the end.", ["kind", "status"], buckets=SECONDS)
queue_wait = Histogram(
    "sutazai_task_queue_seconds",
    "From acceptance to a slot, for tasks that ended in their first run.",
    ["kind", "model"],
    buckets=SECONDS,
)
first_token = Histogram(
    "sutazai_task_first_token_seconds",
    "From acceptance to the first text of the last run.",
    ["kind", "node", "model"],
    buckets=SECONDS,
)
speed = Histogram(
    "sutazai_tokens_per_second",
    "How fast answers were written, as the node tells.",
    ["node", "model"],
    buckets=(1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 400, 800),
)
loads = Counter("sutazai_model_loads", "Answers that waited for their model to be loaded.", ["node", "model"])
tokens = Counter("sutazai_tokens", "Tokens of answered tasks.", ["direction", "node", "model"])
truncated = Counter("sutazai_tasks_truncated", "Answers to, or of, a shortened text.", ["kind"])
degraded = Counter("sutazai_tasks_degraded", "Answers without a language model.", ["kind"])
retries = Counter("sutazai_task_retries", "Runs that ended in an error worth another try.", ["kind"])
interruptions = Counter("sutazai_task_interruptions", "Runs that died with their process.", ["kind"])


def count(changes: Sequence[Change]) -> None:
    """Count what happened to tasks: they ended, or went back to the queue. Those alike are counted together."""
    times: dict[Any, float] = defaultdict(float)
    amounts: dict[Any, list[float]] = defaultdict(list)
    for task, _, columns in changes:
        if task.is_finished:
            _count_end(task, columns, times, amounts)
        elif "attempts" in columns:
            times[_child(retries, task.kind)] += 1
        elif "interruptions" in columns:
            times[_child(interruptions, task.kind)] += 1
    for counter, number in times.items():
        counter.inc(number)
    for histogram, observed in amounts.items():
        observe_all(histogram, observed)


def _count_end(
    task: AgentTask, columns: Mapping[str, Any], times: dict[Any, float], amounts: dict[Any, list[float]]
) -> None:
    def observe(histogram: Any, until: datetime | None) -> None:
        if until is not None:
            amounts[histogram].append((until - task.created_at).total_seconds())

    kind = task.kind
    times[_child(finished, kind, task.status, columns["error_code"])] += 1
    observe(_child(duration, kind, task.status), columns["finished_at"])
    if not (task.attempts or task.interruptions):
        observe(_child(queue_wait, kind, task.model), task.granted_at)
    observe(_child(first_token, kind, columns["receipt"].get("node", ""), task.model), task.first_output_at)
    _count_work(task, columns, times, amounts)
    if columns.get("is_truncated"):
        times[_child(truncated, kind)] += 1
    if columns.get("is_degraded"):
        times[_child(degraded, kind)] += 1


def _count_work(
    task: AgentTask, columns: Mapping[str, Any], times: dict[Any, float], amounts: dict[Any, list[float]]
) -> None:
    receipt = columns["receipt"]
    place = receipt.get("node", ""), task.model
    for direction, column in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        if number := columns.get(column):
            times[_child(tokens, direction, *place)] += number
    if receipt.get("cached"):
        return  # what was given again cost the node nothing
    if tokens_per_second := receipt.get("tokens_per_second"):
        amounts[_child(speed, *place)].append(tokens_per_second)
    if receipt.get("load_seconds", 0) >= LOAD_SECONDS:
        times[_child(loads, *place)] += 1


@cache
def _child(metric: Any, *labels: str) -> Any:
    """A metric's counter for these labels; there are as many as the metric itself keeps."""
    return metric.labels(*labels)


hints.moved_listeners.append(count)


@metrics.register
def engine_metrics() -> Iterator[Metric]:
    """Read what the rows say now."""
    queued = GaugeMetricFamily("sutazai_tasks_queued", "Tasks that wait for a slot.", labels=["model"])
    oldest = GaugeMetricFamily(
        "sutazai_oldest_queued_seconds",
        "How long the task has waited that waits longest, of those that may run now and are not in the background.",
        labels=["model"],
    )
    now = timezone.now()
    for model, number, since in _waiting(now):
        queued.add_metric([model], number)
        if since is not None:
            oldest.add_metric([model], max(0.0, (now - since).total_seconds()))
    running = GaugeMetricFamily("sutazai_tasks_running", "Tasks that hold a slot.", labels=["node", "model"])
    at_work = AgentTask.objects.running().order_by().values_list("node__name", "model")
    for node, model, number in at_work.annotate(Count("pk")):
        running.add_metric([node or "", model], number)
    up = GaugeMetricFamily("sutazai_node_up", "1 while a model server can be reached.", labels=["node"])
    shut = GaugeMetricFamily(
        "sutazai_node_breaker_open_seconds",
        "For how long a node's breaker has not been closed; 0 while it is, or while an operator holds it.",
        labels=["node"],
    )
    for node in Node.objects.select_related("breaker"):
        up.add_metric([node.name], node.status == Node.Status.UP)
        shut.add_metric([node.name], _open_seconds(node.breaker, now))
    sessions = ChatSession.objects.filter(closed_at=None).count()
    yield from (queued, oldest, running, up, shut)
    yield GaugeMetricFamily("sutazai_chat_sessions_open", "Conversations that were not closed.", value=sessions)


def _waiting(now: datetime) -> Iterator[tuple[str, int, datetime | None]]:
    """By model: how many tasks wait, and since when those could run that people wait for; None where none does.

    The index `queue_of_model` holds all of it; SQLite may prefer that by status. A task that came back with no pause,
    as when its process died, counts from its beginning: only its events say when it came back, and to look these up,
    task by task, costs more than it tells.
    """
    awaited = Q(run_after=None) | Q(run_after__lte=now), ~Q(priority=AgentTask.Priority.BACKGROUND)
    since = Min(Coalesce("run_after", "created_at"), filter=Q(*awaited))
    return (
        AgentTask.objects.queued().order_by().values_list("model").annotate(number=Count("pk"), since=since).iterator()
    )


def _open_seconds(breaker: CircuitBreaker, now: datetime) -> float:
    if breaker.is_held or breaker.opened_at is None:
        return 0.0
    return max(0.0, (now - breaker.opened_at).total_seconds())
