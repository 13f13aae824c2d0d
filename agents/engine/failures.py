"""Telling people of their tasks that came to nothing."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

from agents.models import Agent, AgentTask
from core.models.roles import VERBS, Verb
from core.notifications import Event, News, notify, register

Status = AgentTask.Status

# A task that waited until its deadline has failed its owner as well. Whoever cancels one knows.
STATUSES = (Status.FAILED, Status.EXPIRED)

TASK_FAILED = register(
    Event(
        name="task-failed",
        label="Task failed",
        description="A task of yours ended without an answer. Those of one agent within an hour are told together.",
        roles=frozenset(role for role, verbs in VERBS.items() if Verb.SUBMIT in verbs),
    )
)


def tell_owners(ended: Sequence[AgentTask], now: datetime) -> None:
    """Tell people of those of these tasks that failed, in the transaction that ends them.

    Also those who waited for the answer: nobody knows here who still does. Where none failed, which is nearly always,
    this costs nothing; else three statements, however many failed.
    """
    failed = [task for task in ended if task.status in STATUSES]
    if failed:
        names = _names({task.agent_id for task in failed})
        notify(TASK_FAILED, [_news(task, names[task.agent_id], now) for task in failed], now)


def _names(agent_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    return dict(Agent.objects.filter(pk__in=agent_ids).order_by().values_list("pk", "name"))


def _news(task: AgentTask, agent: str, now: datetime) -> News:
    return News(
        task.owner_id,
        f"Task failed: {agent}",
        f"/chat/{task.session_id}/" if task.session_id else "/dashboard",
        f"It ended with the error {task.error_code}.",
        collapse_key=f"{task.agent_id} {now:%Y-%m-%dT%H}",
    )
