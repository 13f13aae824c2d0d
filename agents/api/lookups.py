"""What a request's body names, found among what its sender may use. What is not theirs does not exist (404)."""

import uuid

from django.db.models import Q, QuerySet

from agents.api import reach
from agents.engine import remembered
from agents.kinds.chat import Chat
from agents.models import Agent, AgentVersion, ChatSession
from core.access import ownership
from core.access.principal import Principal
from core.exceptions import Refused

PREFERRED_AGENT = "helper"


class AgentNotFound(Refused):
    """The agent is not among those of the person's team. GET /api/v1/agents/ lists them."""

    status = 404
    code = "agent-not-found"
    title = "There is no such agent"


class VersionNotFound(Refused):
    """The agent has no version of this number."""

    status = 404
    code = "version-not-found"
    title = "The agent has no such version"


class SessionNotFound(Refused):
    """The session is not among the person's own. GET /api/v1/sessions/ lists them."""

    status = 404
    code = "session-not-found"
    title = "There is no such session"


class NotForYou(Refused):
    """Only operators may try versions that are not live."""

    status = 403
    code = "not-permitted"
    title = "Only operators may choose a version"


def agent(principal: Principal, name_or_id: str) -> Agent:
    """Find an agent of the person's team by name, or any that they may see by id."""
    try:
        found: Agent | None = remembered.agent(principal.user.team_id, name_or_id)
    except Agent.DoesNotExist:
        agent_id = _uuid(name_or_id)
        found = _one(reach.agents(principal).filter(pk=agent_id)) if agent_id else None
    if found is None or not principal.may_use_agent(found.name):
        raise AgentNotFound(f"There is no agent {name_or_id[:80]!r}.")
    return found


def chat_agent(principal: Principal) -> Agent:
    """Choose the agent for a message that names none: the helper, else the first that chats and is ready."""
    of_team = reach.agents(principal).filter(team=principal.user.team_id)
    ready = of_team.filter(kind=Chat.name, is_enabled=True, live_version__isnull=False)
    found = _one(ready.filter(name=PREFERRED_AGENT)) or _one(ready.order_by("name"))
    if found is None:
        raise AgentNotFound("No chat agent is ready. An operator can make one in the console.")
    return found


def version(principal: Principal, agent: Agent, number: int | None) -> AgentVersion | None:
    """Find the version that an operator wants to try; None for the live one."""
    if number is None:
        return None
    if not principal.is_operator:
        raise NotForYou
    found = agent.versions.filter(number=number).first()
    if found is None:
        raise VersionNotFound(f"The agent {agent.name!r} has no version {number}.")
    return found


def session(principal: Principal, session_id: uuid.UUID) -> ChatSession:
    """Find one of the person's own conversations, its agent with it."""
    found = ownership.own(reach.sessions(principal), principal).filter(pk=session_id).select_related("agent").first()
    if found is None:
        raise SessionNotFound(f"There is no session {session_id}.")
    _attach_live_version(found.agent)
    return found


def agents_called(principal: Principal, name_or_id: str) -> QuerySet[Agent]:
    """Agents that a person may see, by name or id."""
    is_it = Q(name=name_or_id)
    if agent_id := _uuid(name_or_id):
        is_it |= Q(pk=agent_id)
    return reach.agents(principal).filter(is_it)


def _one(agents: QuerySet[Agent]) -> Agent | None:
    found = next(iter(agents[:1]), None)
    if found is not None:
        _attach_live_version(found)
    return found


def _attach_live_version(agent: Agent) -> None:
    if agent.live_version_id is not None:
        agent.live_version = remembered.version(agent.live_version_id)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
