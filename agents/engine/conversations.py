"""Conversations: beginning and closing them by hand (a message begins one by itself, see `submit`), reading them."""

import uuid

from django.db.models import QuerySet

from agents import kinds
from agents.engine.errors import AgentNotReady
from agents.models import Agent, ChatMessage, ChatSession
from core.exceptions import InvalidInput
from core.models import User
from core.ops import clock

MESSAGES_SHOWN = 200


def begin(agent: Agent, owner: User, *, title: str = "", session_id: uuid.UUID) -> ChatSession:
    """Begin a conversation without a message yet. Raises AgentNotReady, InvalidInput."""
    if not agent.is_enabled or agent.live_version_id is None:
        raise AgentNotReady(f"The agent {agent.name!r} is disabled or has no live version.")
    if not kinds.KINDS[agent.kind].has_sessions:
        raise InvalidInput({"agent": [f"Agents of the kind {agent.kind!r} have no conversations."]})
    now = clock.now()
    return ChatSession.objects.create(
        id=session_id,
        agent=agent,
        title=title,
        owner=owner,
        team=owner.team,
        created_at=now,
        last_active_at=now,
    )


def close(session: ChatSession) -> None:
    """Close a conversation for good; what it holds stays. One that is closed already keeps its moment."""
    ChatSession.objects.filter(pk=session.pk, closed_at=None).update(closed_at=clock.now())
    session.refresh_from_db(fields=["closed_at"])


def latest_messages(session: ChatSession) -> list[ChatMessage]:
    """The conversation's last messages, oldest first, each with what its task has to say."""
    rows: QuerySet[ChatMessage] = session.messages.select_related("task").order_by("-pk")
    shown = ("session", "role", "content", "created_at", "task__status", "task__model", "task__is_degraded")
    errors = ("task__is_truncated", "task__error_code", "task__error_detail")
    return list(reversed(rows.only(*shown, *errors)[:MESSAGES_SHOWN]))
