"""A task's part of the trace of the request that asked for it, whichever process runs it, and however late.

The row carries the trace on, beside what was asked, because messages to runners may be lost.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from agents.engine import operations
from agents.models import AgentTask
from core import tracing
from core.tracing import NOTHING, Carrier, Kind, Span

NOTE = "trace"  # one of AgentTask.NOTES
TASK_ID = "sutazai.task.id"


def note(task: AgentTask) -> None:
    """Have a new task carry the present trace on, if there is one, which learns of the task."""
    present = tracing.current()
    if carrier := present.headers:
        task.input = {**task.input, NOTE: dict(carrier)}
        present.set({TASK_ID: str(task.pk)})


def carrier_of(task: AgentTask) -> Carrier:
    return task.input.get(NOTE) or {}


def run(task: AgentTask) -> Span:
    """Begin a run of a task, and tell how long the first one had to wait for it."""
    if not tracing.is_on():
        return NOTHING
    about: dict[str, Any] = {TASK_ID: str(task.pk), "sutazai.task.kind": task.kind, "gen_ai.request.model": task.model}
    if not (task.attempts or task.interruptions):
        _waited(task, about)
    about["sutazai.node"] = task.node_model.node.name if task.node_model else ""
    about["sutazai.task.attempt"] = task.attempts + task.interruptions + 1
    return tracing.span(f"run {task.kind}", about, kind=Kind.CONSUMER, of=carrier_of(task))


def _waited(task: AgentTask, about: Mapping[str, Any]) -> None:
    tracing.span("wait for a slot", about, of=carrier_of(task), began=task.created_at).end()


def ended(change: operations.Finish | operations.SendBack) -> None:
    """Tell the present run how it ended."""
    span = tracing.current()
    if isinstance(change, operations.SendBack):
        span.failed(change.reason.partition(":")[0])
        return
    tokens = {"gen_ai.usage.input_tokens": "prompt_tokens", "gen_ai.usage.output_tokens": "output_tokens"}
    counts = {name: change.fields.get(column) for name, column in tokens.items()}
    span.set({"sutazai.task.status": str(change.status), **counts})
    if change.error_code:
        span.failed(change.error_code)


def publication(name: str, queue: str, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Span]:
    """Begin a message for each of some tasks; those that belong to no trace are left out."""
    if not tracing.is_on():
        return {}
    about = {"messaging.system": "celery", "messaging.destination.name": queue, "messaging.operation.type": "send"}
    carriers = AgentTask.objects.filter(pk__in=task_ids).order_by().values_list("pk", f"input__{NOTE}")
    return {
        task_id: tracing.span(f"send {name}", {**about, TASK_ID: str(task_id)}, kind=Kind.PRODUCER, of=carrier)
        for task_id, carrier in carriers
        if carrier
    }
