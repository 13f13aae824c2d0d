"""The playground: try an agent, or a version of one, and watch it answer. It speaks to the API as any client does."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from agents import kinds
from agents.models import Agent

VERSIONS_OFFERED = 20


def playground(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("agents.add_agenttask"):
        raise PermissionDenied
    agents = offered_agents()
    context = {
        **admin.site.each_context(request),
        "title": "Playground",
        "agents": agents,
        "chosen": request.GET.get("agent", ""),
        "may_add_agent": request.user.has_perm("agents.add_agent"),
        "settings": {
            "agents": agents,
            "agent": request.GET.get("agent", ""),
            "version": request.GET.get("version", ""),
            "taskPage": reverse("admin:agents_agenttask_change", args=["00000000-0000-0000-0000-000000000000"]),
        },
    }
    return TemplateResponse(request, "console/playground.html", context)


def offered_agents() -> list[dict[str, Any]]:
    """The agents that take tasks, those that chat first, each with its latest versions."""
    rows = Agent.objects.filter(is_enabled=True, live_version__isnull=False, kind__in=kinds.KINDS)
    rows = rows.select_related("live_version", "team").prefetch_related("versions")
    offered = [
        {
            "id": str(agent.pk),
            "name": agent.name,
            "description": agent.description,
            "chats": kinds.KINDS[agent.kind].has_sessions,
            "kind": kinds.KINDS[agent.kind].label,
            "live": agent.live_version.number if agent.live_version else 0,
            "versions": [
                {"number": version.number, "note": version.note, "model": version.model}
                for version in list(agent.versions.all())[:VERSIONS_OFFERED]
            ],
        }
        for agent in rows.defer("live_version__system_prompt")
    ]
    return sorted(offered, key=lambda agent: (not agent["chats"], agent["name"] != "helper", agent["name"]))
