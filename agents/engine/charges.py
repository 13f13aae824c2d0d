"""What tasks are charged: what is reserved when they are submitted, and what they used when they end.

The rule of budgets stands in `core.access.limits.budgets`; the numbers of each task stand in its row.
"""

import json
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agents.engine import remembered, statements
from agents.engine.chosen_model import DEFAULT_CONTEXT_TOKENS
from agents.kinds import KINDS
from agents.kinds.base import estimate_tokens, model_options
from agents.models import AgentTask, AgentVersion, TaskEvent
from agents.ollama.types import JsonObject
from core.access.limits import budgets
from core.access.limits.allowances import Level, levels
from core.access.limits.budgets import Charge, Settlement
from core.access.limits.subjects import Subject, subjects


def charge_for(task: AgentTask, bounds: tuple[Level, ...] = ()) -> Charge | None:
    """Work out what a new task is going to cost; None where nobody whom it counts for has a budget.

    bounds: what those may use, where it was looked up before.
    """
    bounds = bounds or levels(_subjects(task))
    if not any(level.bounds_work for level in bounds):
        return None
    has_token_budget = any(level.has_token_budget for level in bounds)
    return Charge(bounds, tokens=_estimate(task) if has_token_budget else 0)


def settle(ended: Sequence[AgentTask]) -> None:
    """Put what tasks used in the place of what was reserved for them, in the transaction that ends them."""
    budgets.settle(
        [
            Settlement(_subjects(task), task.created_at.date(), task.reserved_tokens, task.charged_tokens or 0)
            for task in ended
            if task.reserved_tokens is not None
        ]
    )


def used_tokens(task: AgentTask, fields: Mapping[str, Any], *, tail: JsonObject) -> int:
    """Tell what a task used that ends now, tokens having been reserved for it.

    fields: its last columns. tail: what of its answer is no event yet. Where the model gave no figures, because the
    task did not come to its end, what it wrote counts by estimate, and the prompt if there is any of that.
    """
    prompt, output = fields.get("prompt_tokens"), fields.get("output_tokens")
    if prompt is not None and output is not None:
        return int(prompt + output)
    written = _written(task.pk) + _words(tail)
    if not written:
        return 0
    prompt_estimate = (task.reserved_tokens or 0) - _output_room(remembered.version(task.version_id))
    return prompt_estimate + estimate_tokens(written)


def count_unfinished(wanted: Collection[Subject]) -> dict[Subject, int]:
    """Count the tasks of keys, people and teams that wait or run."""
    counts: Counter[Subject] = Counter()
    for key_id, user_id, team_id, tasks in statements.unfinished_tasks():
        for subject in subjects(key_id=key_id, user_id=user_id, team_id=team_id):
            counts[subject] += tasks
    return {subject: counts[subject] for subject in wanted}


def _subjects(task: AgentTask) -> tuple[Subject, ...]:
    return subjects(key_id=task.api_key_id, user_id=task.owner_id, team_id=task.team_id)


def _estimate(task: AgentTask) -> int:
    window = _context_window(task.version)
    prompt = KINDS[task.kind].estimate_prompt(task, at_most=window)
    return min(prompt, window) + _output_room(task.version)


def _output_room(version: AgentVersion) -> int:
    """The answer's limit, else what `kinds.base.prompt_budget` leaves for it."""
    limit = model_options(version).get("num_predict")
    return limit if isinstance(limit, int) and limit > 0 else _context_window(version) // 4


def _context_window(version: AgentVersion) -> int:
    """The window that the version asks for: no node is chosen yet."""
    return int(version.options.get("num_ctx", DEFAULT_CONTEXT_TOKENS))


def _written(task_id: uuid.UUID) -> str:
    """All that a task wrote; also what an interrupted run of it wrote, for that was work as well."""
    pieces = TaskEvent.objects.filter(task=task_id, type=TaskEvent.Type.DELTA).order_by("number")
    return "".join(_words(json.loads(data)) for data in pieces.values_list("data", flat=True))


def _words(piece: JsonObject) -> str:
    """What the model had to write for a piece of an answer."""
    calls = json.dumps(piece["tool_calls"]) if "tool_calls" in piece else ""
    return f"{piece.get('thinking', '')}{piece.get('text', '')}{calls}"
