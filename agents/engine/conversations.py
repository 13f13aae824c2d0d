"""Beginning and closing conversations by hand; a message begins one by itself (see `submit`)."""

import uuid

from agents import kinds
from agents.engine.errors import AgentNotReady
from agents.models import Agent, ChatSession
from core.exceptions import InvalidInput
from core.models import User
from core.ops import clock


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
