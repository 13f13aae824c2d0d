"""What the agents' side has processes do."""

from collections.abc import Collection

from agents.models import AgentTask
from core.ops import group
from core.ops.group import Work

MOST = 2000  # tasks; more than all processes together run


@group.register
def tasks(identities: Collection[str]) -> dict[str, list[Work]]:
    running = AgentTask.objects.running().filter(runner__in=identities).order_by("pk")
    found: dict[str, list[Work]] = {}
    rows = running.values_list("runner", "pk", "agent__name", "started_at")
    for runner, pk, agent, since in rows[:MOST]:
        found.setdefault(runner, []).append(Work("task", str(pk), agent, since, "admin:agents_agenttask_change"))
    return found
