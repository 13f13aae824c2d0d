"""A finished task explains itself: where its time went, who answered, and what to make of the answer."""

from datetime import datetime
from typing import Any

from agents.models import AgentTask


def phases(task: AgentTask, finished_at: datetime) -> list[dict[str, Any]]:
    """Split the time from submission to the end, without gaps: the phases add up to the wall time. In seconds."""
    tried_before = bool(task.attempts or task.interruptions)
    marks = [
        ("queued and earlier tries" if tried_before else "queued", task.granted_at),
        ("waiting for a runner", task.started_at),
        ("waiting for the first token", task.first_output_at),
        ("answering", finished_at if task.first_output_at else None),
    ]
    steps, start = [], task.created_at
    for name, moment in marks:
        # The moments come from several processes, whose clocks may be milliseconds apart.
        end = max(start, finished_at if moment is None else min(moment, finished_at))
        if end > start or moment is not None:
            steps.append({"name": name, "seconds": (end - start).total_seconds()})
        start = end
    return steps


def receipt(task: AgentTask, finished_at: datetime, run: dict[str, Any]) -> dict[str, Any]:
    """Explain a task that ends at finished_at.

    run: what its last run knows: node, node_kind, rejected nodes, load_seconds, tokens_per_second, prompt estimate …
    """
    return {
        "model": task.model,
        "wall_seconds": (finished_at - task.created_at).total_seconds(),
        "phases": phases(task, finished_at),
        "attempts": task.attempts + 1,
        "interruptions": task.interruptions,
        "cached": False,
        **run,
    }
