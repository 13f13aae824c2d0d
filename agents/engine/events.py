"""The events of a task: how they are written down, read back, and folded into the state that they tell of."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.models import AgentTask, TaskEvent

TERMINAL_TYPES = (TaskEvent.Type.DONE, TaskEvent.Type.ERROR)


def encode(data: Mapping[str, Any]) -> str:
    """Write event data as one line of ASCII JSON; clients that split at U+2028 or U+0085 read it whole."""
    return json.dumps(data, separators=(",", ":"))


def event(
    task: AgentTask, type_: TaskEvent.Type, data: Mapping[str, Any], now: datetime, *, number: int | None = None
) -> TaskEvent:
    """Make the task's next event and raise the task's counter; the caller saves both in one transaction."""
    task.event_count = task.event_count + 1 if number is None else number
    return TaskEvent(task_id=task.pk, number=task.event_count, type=type_, data=encode(data), created_at=now)


@dataclass(frozen=True)
class Rebuilt:
    """What a task's events say of it."""

    status: str
    text: str
    error_code: str


def rebuild(events: Iterable[TaskEvent]) -> Rebuilt:
    """Fold a task's events, in order, into its state: the text is what came since the last reset."""
    status, text, error_code = "", "", ""
    for item in events:
        data = json.loads(item.data)
        if item.type == TaskEvent.Type.DELTA:
            text += data["text"]
            continue
        status = data["status"]
        error_code = data.get("code", "")
        if data.get("reset"):
            text = ""
    return Rebuilt(status=status, text=text, error_code=error_code)
