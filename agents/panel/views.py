"""The dashboard and the chat."""

import uuid

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from agents.engine.conversations import latest_messages
from agents.kinds.chat import Chat
from agents.models import Agent, AgentTask, ChatSession
from agents.panel.usage import usage_of
from core.access import ownership
from core.access.principal import Principal
from core.panel import limits
from core.panel.pages import page, person_of

SESSIONS_SHOWN = 50
RECENT = 8


@login_required
def dashboard(request: HttpRequest) -> HttpResponse:
    person = person_of(request)
    tasks = (
        AgentTask.objects.filter(owner=person).select_related("agent").defer("input", "output", "receipt", "result")
    )
    return page(
        request,
        "dashboard",
        name="dashboard",
        title="Dashboard",
        usage=usage_of(person, timezone.now()),
        limits=limits.of_person(person),
        sessions=_sessions(person.pk)[:RECENT],
        tasks=tasks.order_by("-pk")[:RECENT],
    )


@login_required
def chat(request: HttpRequest, session_id: uuid.UUID | None = None) -> HttpResponse:
    """A conversation of one's own, or a new one. What goes on while the page loads is followed by its script."""
    person = person_of(request)
    session = get_object_or_404(_sessions(person.pk), pk=session_id) if session_id else None
    turns = latest_messages(session) if session else []
    unfinished = session.tasks.unfinished().order_by("pk").first() if session else None
    agents = ownership.shared(Agent.objects.all(), Principal(person))
    ready = agents.filter(team=person.team_id, kind=Chat.name, is_enabled=True, live_version__isnull=False)
    return page(
        request,
        "chat",
        name="chat",
        title=str(session) if session else "New chat",
        sessions=_sessions(person.pk)[:SESSIONS_SHOWN],
        session=session,
        turns=turns,
        agents=sorted(ready, key=lambda agent: (agent.name != "helper", agent.name)),
        settings={
            "session": str(session.pk) if session else "",
            "agent": session.agent.name if session else "",
            "unfinished": str(unfinished.pk) if unfinished else "",
            "chatPage": reverse("panel-chat"),
        },
    )


def _sessions(owner_id: uuid.UUID) -> QuerySet[ChatSession]:
    return ChatSession.objects.filter(owner=owner_id).select_related("agent").order_by("-last_active_at")
