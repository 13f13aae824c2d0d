"""Answers as they come, whoever makes them: pieces, and then how the task ended."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from agents.engine.events import TERMINAL_TYPES
from agents.engine.follow import Event, reader
from agents.engine.pieces import chunk_of, join
from agents.models import AgentTask, TaskEvent
from agents.ollama.types import ChatChunk, JsonObject
from core.exceptions import Refused
from core.ops.threads import in_thread


@dataclass(frozen=True)
class Began:
    """A run of the task has a node. is_truncated: it does not see all that it was sent."""

    task_id: uuid.UUID
    node: str
    is_truncated: bool = False


@dataclass(frozen=True)
class Reset:
    """The task starts over: all pieces so far are void."""


@dataclass(frozen=True)
class Ended:
    """How a task ended, with what clients are told of it. last: the chunk that its model ended with."""

    task_id: uuid.UUID
    status: str
    model: str
    output: JsonObject
    last: ChatChunk
    node: str = ""
    cache: str = ""
    queue_wait_seconds: float = 0.0
    is_truncated: bool = False
    is_degraded: bool = False
    error_code: str = ""
    error_detail: str = ""
    finished_at: datetime | None = None

    @property
    def has_answer(self) -> bool:
        return self.status == AgentTask.Status.SUCCEEDED


Item = Began | ChatChunk | Reset


class Gone(Refused):
    """The task was deleted while it was awaited."""

    status = 404
    code = "not-found"
    title = "The task was deleted while it was awaited"


async def follow(task_id: uuid.UUID, *, after: int = 0, skips_void: bool = True) -> AsyncIterator[Item | Ended]:
    """Give a task's answer after an event, from whatever process makes it, and its end. Raises Gone.

    skips_void: what is void already when the following begins is left out.
    """
    is_first = skips_void and after == 0
    async for events in reader.follow(task_id, after=after):
        for item in _since_reset(events) if is_first else events:
            data = json.loads(item.data)
            if item.type == TaskEvent.Type.DELTA:
                yield chunk_of(data)
            elif data.get("reset"):
                yield Reset()
            elif data.get("status") == AgentTask.Status.RUNNING:
                yield Began(task_id, data["node"])
        is_first = False
    yield await in_thread(read, task_id)


def _since_reset(events: list[Event]) -> list[Event]:
    """What counts of events that are seen together: nothing that was made void."""
    resets = [number for number, item in enumerate(events) if _is_reset(item.type, item.data)]
    return events[resets[-1] + 1 :] if resets else events


def _is_reset(type_: str, data: str) -> bool:
    return type_ == TaskEvent.Type.STATE and bool(json.loads(data).get("reset"))


def history(task_id: uuid.UUID) -> tuple[list[ChatChunk | None], int]:
    """Read all that the runs of a task wrote, None where one began anew; and the number of the last event."""
    pieces: list[ChatChunk | None] = []
    number = 0
    events = TaskEvent.objects.filter(task=task_id).order_by("number")
    for number, type_, data in events.values_list("number", "type", "data"):
        if type_ in TERMINAL_TYPES:
            return pieces, number - 1  # followers are told how it ended
        if type_ == TaskEvent.Type.DELTA:
            pieces.append(chunk_of(json.loads(data)))
        elif _is_reset(type_, data):
            pieces.append(None)
    return pieces, number


def whole(task_id: uuid.UUID) -> ChatChunk:
    """Read all that the last run of a task wrote, as one chunk."""
    return chunk_of(whole_piece(task_id))


def whole_piece(task_id: uuid.UUID) -> JsonObject:
    """Read all that the last run of a task wrote, as one piece."""
    events = TaskEvent.objects.filter(task=task_id).order_by("number").values_list("number", "type", "data")
    pieces = [json.loads(item.data) for item in _since_reset([Event(*row) for row in events]) if item.type == "delta"]
    return join(pieces)


def part_ids(task_id: uuid.UUID) -> list[uuid.UUID]:
    """Find the further tasks that answer the same call, in their order."""
    asked = AgentTask.objects.filter(pk=task_id).values_list("input", flat=True).first() or {}
    return [uuid.UUID(part) for part in asked.get("parts", ())]


def read(task_id: uuid.UUID) -> Ended:
    """Tell how a task ended. Raises Gone."""
    task = AgentTask.objects.filter(pk=task_id).first()
    if task is None:
        raise Gone
    return of_task(task)


def of_task(task: AgentTask) -> Ended:
    """Tell how a task ended, from its row."""
    receipt = task.receipt or {}
    return Ended(
        task_id=task.pk,
        status=task.status,
        model=task.model,
        output=task.output or {},
        last=_last_chunk(task, receipt),
        node=receipt.get("node", ""),
        cache=receipt.get("cache", ""),
        queue_wait_seconds=queue_wait(task),
        is_truncated=task.is_truncated,
        is_degraded=task.is_degraded,
        error_code=task.error_code,
        error_detail=task.error_detail,
        finished_at=task.finished_at,
    )


def queue_wait(task: AgentTask) -> float:
    """Seconds from the submission until the task had a slot, the last time that it got one."""
    return (task.granted_at - task.created_at).total_seconds() if task.granted_at else 0.0


def _last_chunk(task: AgentTask, receipt: JsonObject) -> ChatChunk:
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
