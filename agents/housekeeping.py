"""The agents' own maintenance jobs."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from agents.engine import discovery
from agents.models import AgentTask, ChatSession, Node, NodeModel
from core.ops import maintenance


@maintenance.job(
    "close_idle_chat_sessions",
    "Close chat sessions that nobody wrote to for long",
    figures=lambda: {"open_chat_sessions": ChatSession.objects.filter(closed_at=None).count()},
)
def close_idle_chat_sessions() -> str:
    """Close sessions idle for CHAT_SESSION_IDLE_HOURS; one whose task is unfinished is not idle."""
    idle_since = timezone.now() - timedelta(hours=settings.CHAT_SESSION_IDLE_HOURS)
    busy = AgentTask.objects.unfinished().filter(session=OuterRef("pk"))
    idle = ChatSession.objects.filter(~Exists(busy), closed_at=None, last_active_at__lt=idle_since)
    return f"Closed {idle.update(closed_at=timezone.now())} sessions."


@maintenance.job(
    "refresh_models",
    "Ask every node which models it has",
    figures=lambda: {
        "nodes_up": Node.objects.filter(kind=Node.Kind.OLLAMA, status=Node.Status.UP).count(),
        "models": NodeModel.objects.filter(node__kind=Node.Kind.OLLAMA, is_available=True).count(),
    },
)
def refresh_models() -> str:
    nodes = discovery.refresh_all()
    down = sorted(name for name, is_up in nodes.items() if not is_up)
    return f"Asked {len(nodes)} nodes." + (f" No answer from: {', '.join(down)}." if down else "")
