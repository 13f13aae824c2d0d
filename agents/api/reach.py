"""The rows that a caller can reach: those that are theirs (`core.access.ownership`), within what their key is for."""

from django.db.models import QuerySet

from agents.models import Agent, AgentTask, ChatSession
from core.access import ownership
from core.access.principal import Principal


def agents(principal: Principal) -> QuerySet[Agent]:
    rows = ownership.shared(Agent.objects.all(), principal)
    return rows.filter(name__in=principal.agent_names) if principal.agent_names else rows


def sessions(principal: Principal) -> QuerySet[ChatSession]:
    rows = ownership.visible(ChatSession.objects.all(), principal)
    return rows.filter(agent__name__in=principal.agent_names) if principal.agent_names else rows


def tasks(principal: Principal) -> QuerySet[AgentTask]:
    rows = ownership.visible(AgentTask.objects.all(), principal)
    return rows.filter(agent__name__in=principal.agent_names) if principal.agent_names else rows
