"""Answers as they come, whoever makes them: pieces, and then how the task ended."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agents.engine.follow import Event, reader
from agents.engine.pieces import chunk_of
from agents.models import AgentTask, TaskEvent
from agents.ollama.types import ChatChunk, JsonObject
from core.ops.threads import in_thread


@dataclass(frozen=True)
class Began:
    """A run of the task has a node."""

    task_id: uuid.UUID
    node: str


@dataclass(frozen=True)
class Ended:
    """How a task ended, with what clients are told of it."""

    task_id: uuid.UUID
    status: str
    model: str
    text: str
    output: JsonObject
    last: ChatChunk
    node: str = ""
    cache: str = ""
    is_truncated: bool = False
    is_degraded: bool = False
    error_code: str = ""
    error_detail: str = ""

    @property
    def has_answer(self) -> bool:
        return self.status == AgentTask.Status.SUCCEEDED


class StartedOver(Exception):
    """The task began anew after pieces of it had been given away, which cannot be taken back."""


class Gone(Exception):
    """The task was deleted."""


async def follow(task_id: uuid.UUID) -> AsyncIterator[Began | ChatChunk | Ended]:
    """Give a task's answer from its beginning, from whatever process makes it, and its end.

    Raises StartedOver when the task starts over after a piece was given; Gone.
    """
    has_given = False
    async for events in reader.follow(task_id):
        for item in events if has_given else _since_reset(events):
            data = json.loads(item.data)
            if item.type == TaskEvent.Type.DELTA:
                has_given = True
                yield chunk_of(data)
            elif has_given and data.get("reset"):
                raise StartedOver
            elif data.get("status") == AgentTask.Status.RUNNING:
                yield Began(task_id, data["node"])
    yield await in_thread(read, task_id)


def _since_reset(events: list[Event]) -> list[Event]:
    """What counts of events that are seen together: nothing that was made void."""
    resets = [number for number, item in enumerate(events) if is_reset(item)]
    return events[resets[-1] + 1 :] if resets else events


def is_reset(event: Event) -> bool:
    return event.type == TaskEvent.Type.STATE and bool(json.loads(event.data).get("reset"))


def read(task_id: uuid.UUID) -> Ended:
    """Tell how a task ended. Raises Gone."""
    task = AgentTask.objects.filter(pk=task_id).first()
    if task is None:
        raise Gone(task_id)
    return of_task(task)


def of_task(task: AgentTask) -> Ended:
    """Tell how a task ended, from its row."""
    receipt = task.receipt or {}
    return Ended(
        task_id=task.pk,
        status=task.status,
        model=task.model,
        text=task.result or "",
        output=task.output or {},
        last=last_chunk(task, receipt),
        node=receipt.get("node", ""),
        cache=receipt.get("cache", ""),
        is_truncated=task.is_truncated,
        is_degraded=task.is_degraded,
        error_code=task.error_code,
        error_detail=task.error_detail,
    )


def last_chunk(task: AgentTask, receipt: JsonObject) -> ChatChunk:
    """The chunk that a model's answer ended with, as far as the receipt remembers it."""
    return ChatChunk(
        model=task.model,
        done=True,
        done_reason=receipt.get("done_reason", "stop"),
        prompt_tokens=task.prompt_tokens or 0,
        output_tokens=task.output_tokens or 0,
        total_seconds=receipt.get("wall_seconds", 0.0),
        load_seconds=receipt.get("load_seconds", 0.0),
        prompt_eval_seconds=receipt.get("prompt_eval_seconds", 0.0),
        eval_seconds=receipt.get("eval_seconds", 0.0),
    )
