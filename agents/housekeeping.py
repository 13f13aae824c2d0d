"""The agents' own maintenance jobs."""

from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from agents.engine import discovery, pruning
from agents.models import AgentTask, ChatSession, Node, NodeModel, QueueShare, TaskEvent
from core.access.limits.subjects import Subject
from core.formats import number
from core.models import Team, User
from core.ops import deletions, maintenance


def _idle_sessions() -> QuerySet[ChatSession]:
    """Sessions idle for CHAT_SESSION_IDLE_HOURS; one whose task is unfinished is not idle."""
    idle_since = timezone.now() - timedelta(hours=settings.CHAT_SESSION_IDLE_HOURS)
    busy = AgentTask.objects.unfinished().filter(session=OuterRef("pk"))
    return ChatSession.objects.filter(~Exists(busy), closed_at=None, last_active_at__lt=idle_since)


@maintenance.job(
    "close_idle_chat_sessions",
    "Close chat sessions that nobody wrote to for long",
    figures=lambda: {"open_chat_sessions": ChatSession.objects.filter(closed_at=None).count()},
    preview=lambda: f"It would close {_idle_sessions().count()} sessions.",
)
def close_idle_chat_sessions() -> str:
    return f"Closed {_idle_sessions().update(closed_at=timezone.now())} sessions."


def _would_ask() -> str:
    names = sorted(node.name for node in discovery.refreshable())
    return f"It would ask {len(names)} nodes: {', '.join(names)}." if names else "There is no node to ask."


@maintenance.job(
    "refresh_models",
    "Ask every node which models it has",
    figures=lambda: {
        "nodes_up": Node.objects.filter(kind=Node.Kind.OLLAMA, status=Node.Status.UP).count(),
        "models": NodeModel.objects.filter(node__kind=Node.Kind.OLLAMA, is_available=True).count(),
    },
    preview=_would_ask,
    is_long=True,
)
def refresh_models() -> str:
    nodes = discovery.refresh_all()
    down = sorted(name for name, is_up in nodes.items() if not is_up)
    return f"Asked {len(nodes)} nodes." + (f" No answer from: {', '.join(down)}." if down else "")


def _would_join() -> str:
    counts = [count for _, count in pruning.in_pieces()]
    return f"It would join the {number(sum(counts))} pieces of {number(len(counts))} answers, each into one."


def _events() -> Mapping[str, int]:
    """On PostgreSQL as its statistics tell, for to count a large table takes longer than a statement may."""
    if connection.vendor != "postgresql":
        return {"events": TaskEvent.objects.count()}
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")  # what this session has just done counts, too
        cursor.execute(
            "SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = to_regclass(%s)", [TaskEvent._meta.db_table]
        )
        return {"events": int(cursor.fetchone()[0])}


@maintenance.job(
    "join_old_events",
    "Join the pieces in which old answers were written down",
    figures=_events,
    preview=_would_join,
    is_long=True,
)
def join_old_events() -> str:
    return f"Joined pieces of answers: {number(pruning.join_pieces())} events are gone."


deletions.register(
    "delete_old_tasks",
    "Delete tasks and conversations that are older than they are kept",
    {"tasks": pruning.old_tasks, "conversations": pruning.old_sessions},
    is_long=True,
)


def _shares_of_nobody() -> QuerySet[QueueShare]:
    """Places in the queues of people and teams that are gone."""
    known = {str(Subject("user", pk)) for pk in User.objects.values_list("pk", flat=True)}
    known |= {str(Subject("team", pk)) for pk in Team.objects.values_list("pk", flat=True)}
    subjects = set(QueueShare.objects.values_list("subject", flat=True).distinct())
    return QueueShare.objects.filter(subject__in=sorted(subjects - known)[: deletions.BATCH])


deletions.register(
    "delete_queue_shares",
    "Delete the places in the queues of people and teams that are gone",
    {"queue shares": _shares_of_nobody},
)
