"""Telling people of their tasks that came to nothing, and webhooks of everybody's."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

from agents.models import Agent, AgentTask
from core.models.roles import VERBS, Verb
from core.notifications import Event, News, notify, register, webhooks

Status = AgentTask.Status

# A task that waited until its deadline has failed its owner as well. Whoever cancels one knows.
STATUSES = (Status.FAILED, Status.EXPIRED)

TASK_FAILED = register(
    Event(
        name="task-failed",
        label="Task failed",
        description="A task of yours ended without an answer. Those of one agent within an hour are told together.",
        webhook=True,
        roles=frozenset(role for role, verbs in VERBS.items() if Verb.SUBMIT in verbs),
    )
)


def tell_owners(ended: Sequence[AgentTask], now: datetime) -> None:
    """Tell people of those of these tasks that failed, in the transaction that ends them.

    Also those who waited for the answer: nobody knows here who still does. Where none failed, which is nearly always,
    this costs nothing; else four statements, however many failed, or five where webhooks want to be told.
    """
    failed = [task for task in ended if task.status in STATUSES]
    if failed:
        names = _names({task.agent_id for task in failed})
        messages = [_message(task, names[task.agent_id], now) for task in failed]
        notify(TASK_FAILED, [_news(task, message) for task, message in zip(failed, messages, strict=True)], now)
        webhooks.tell(TASK_FAILED, messages, now)


def _names(agent_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    return dict(Agent.objects.filter(pk__in=agent_ids).order_by().values_list("pk", "name"))


def _message(task: AgentTask, agent: str, now: datetime) -> webhooks.Message:
    """What operators are told, who may see anybody's task."""
    return webhooks.Message(
        f"Task failed: {agent}",
        f"/admin/agents/agenttask/{task.pk}/change/",
        f"It ended with the error {task.error_code}.",
        {"agent": agent, "task": str(task.pk), "error": task.error_code},
        collapse_key=f"{task.agent_id} {now:%Y-%m-%dT%H}",
    )


def _news(task: AgentTask, message: webhooks.Message) -> News:
    """The same for the task's owner."""
    link = f"/chat/{task.session_id}/" if task.session_id else "/dashboard"
    return News(task.owner_id, message.title, link, message.text, collapse_key=message.collapse_key)
