"""What the engine counts, and what it can be asked for. No label names a person."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agents.engine import hints
from agents.models import AgentTask, ChatSession, Node
from core.ops import metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

finished = Counter("sutazai_tasks_finished", "Tasks that ended.", ["kind", "status", "error_code"])
duration = Histogram("sutazai_task_seconds", "From acceptance to the end.", ["kind", "status"], buckets=SECONDS)
queue_wait = Histogram(
    "sutazai_task_queue_seconds",
    "From acceptance to a slot, for tasks that ended in their first run.",
    ["kind"],
    buckets=SECONDS,
)
first_token = Histogram(
    "sutazai_task_first_token_seconds", "From acceptance to the first text of the last run.", ["kind"], buckets=SECONDS
)
tokens = Counter("sutazai_tokens", "Tokens of answered tasks.", ["direction", "node", "model"])
truncated = Counter("sutazai_tasks_truncated", "Answers to, or of, a shortened text.", ["kind"])
degraded = Counter("sutazai_tasks_degraded", "Answers without a language model.", ["kind"])
retries = Counter("sutazai_task_retries", "Runs that ended in an error worth another try.", ["kind"])
interruptions = Counter("sutazai_task_interruptions", "Runs that died with their process.", ["kind"])


def count(task: AgentTask, changes: Mapping[str, Any]) -> None:
    """Count what happened to a task: it ended, or went back to the queue."""
    if task.is_finished:
        _count_end(task, changes)
    elif "attempts" in changes:
        retries.labels(task.kind).inc()
    elif "interruptions" in changes:
        interruptions.labels(task.kind).inc()


def _count_end(task: AgentTask, changes: Mapping[str, Any]) -> None:
    finished.labels(task.kind, task.status, changes["error_code"]).inc()
    _observe(duration.labels(task.kind, task.status), task, changes["finished_at"])
    if not (task.attempts or task.interruptions):
        _observe(queue_wait.labels(task.kind), task, task.granted_at)
    _observe(first_token.labels(task.kind), task, task.first_output_at)
    for direction, column in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        if number := changes.get(column):
            tokens.labels(direction, changes["receipt"].get("node", ""), task.model).inc(number)
    if changes.get("is_truncated"):
        truncated.labels(task.kind).inc()
    if changes.get("is_degraded"):
        degraded.labels(task.kind).inc()


def _observe(histogram: Histogram, task: AgentTask, until: datetime | None) -> None:
    if until is not None:
        histogram.observe((until - task.created_at).total_seconds())


hints.moved_listeners.append(count)


@metrics.register
def engine_metrics() -> Iterator[Metric]:
    """Read what the rows say now."""
    queued = GaugeMetricFamily("sutazai_tasks_queued", "Tasks that wait for a slot.", labels=["model"])
    oldest = GaugeMetricFamily("sutazai_oldest_queued_seconds", "Age of the oldest waiting task.", labels=["model"])
    waiting = AgentTask.objects.queued().order_by().values_list("model")
    for model, number, since in waiting.annotate(Count("pk"), Min("created_at")):
        queued.add_metric([model], number)
        oldest.add_metric([model], max(0.0, (timezone.now() - since).total_seconds()))
    running = GaugeMetricFamily("sutazai_tasks_running", "Tasks that hold a slot.", labels=["node", "model"])
    at_work = AgentTask.objects.running().order_by().values_list("node__name", "model")
    for node, model, number in at_work.annotate(Count("pk")):
        running.add_metric([node or "", model], number)
    up = GaugeMetricFamily("sutazai_node_up", "1 while a model server can be reached.", labels=["node"])
    for name, status in Node.objects.values_list("name", "status"):
        up.add_metric([name], status == Node.Status.UP)
    sessions = ChatSession.objects.filter(closed_at=None).count()
    yield from (queued, oldest, running, up)
    yield GaugeMetricFamily("sutazai_chat_sessions_open", "Conversations that were not closed.", value=sessions)
