"""What of old tasks is kept: the pieces of their answers as one, and in the end nothing.

An answer is written down in pieces, for those who follow it. Later nobody does, and one event says the same: whoever
reads the events gets the same text, in one piece.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from agents.engine.answers import whole_piece
from agents.engine.events import encode
from agents.models import AgentTask, ChatSession, TaskEvent
from core.models.base import uuid7_from

BATCH = 200  # tasks for each transaction


def _days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


# Pieces ------------------------------------------------------------------------------------------------------------


def in_pieces() -> Iterator[tuple[uuid.UUID, int]]:
    """Find tasks that ended EVENT_DAYS ago and whose answers stand in pieces, and in how many."""
    ended_before = _days_ago(settings.EVENT_DAYS)
    last = uuid.UUID(int=0)
    while found := list(_in_pieces(ended_before).filter(task_id__gt=last)[:BATCH]):
        yield from found
        last = found[-1][0]


def _in_pieces(ended_before: datetime) -> "QuerySet[TaskEvent, tuple[uuid.UUID, int]]":
    """Keys sort by time, so that this reads the old end of the table and no more."""
    pieces = TaskEvent.objects.filter(
        type=TaskEvent.Type.DELTA, task_id__lt=uuid7_from(ended_before), task__finished_at__lt=ended_before
    )
    counted = pieces.order_by("task_id").values("task_id").annotate(count=Count("number")).filter(count__gt=1)
    return counted.values_list("task_id", "count")


def join_pieces() -> int:
    """Write each of these answers down as one piece, in the place of the last; returns how many events went."""
    removed = 0
    for task_id, _ in in_pieces():
        with transaction.atomic():
            removed += _join(task_id)
    return removed


def _join(task_id: uuid.UUID) -> int:
    """Pieces of runs that began anew are void, and go."""
    piece = whole_piece(task_id)
    events = TaskEvent.objects.filter(task=task_id)
    pieces = events.filter(type=TaskEvent.Type.DELTA)
    last = pieces.order_by("-number").values_list("number", flat=True).first()
    if last is None:
        return 0
    if piece:
        pieces.filter(number=last).update(data=encode(piece))
        pieces = pieces.exclude(number=last)
    return pieces.delete()[0]


# Tasks -------------------------------------------------------------------------------------------------------------


def old_tasks() -> QuerySet[AgentTask]:
    """Tasks that ended TASK_DAYS ago, but for those of conversations that are open."""
    if not settings.TASK_DAYS:
        return AgentTask.objects.none()
    old = AgentTask.objects.filter(finished_at__lt=_days_ago(settings.TASK_DAYS))
    return old.filter(Q(session=None) | Q(session__closed_at__isnull=False))


def old_sessions() -> QuerySet[ChatSession]:
    """Conversations that were closed TASK_DAYS ago, and have no task that stays."""
    if not settings.TASK_DAYS:
        return ChatSession.objects.none()
    before = _days_ago(settings.TASK_DAYS)
    stays = AgentTask.objects.filter(Q(finished_at=None) | Q(finished_at__gte=before), session=OuterRef("pk"))
    return ChatSession.objects.filter(~Exists(stays), closed_at__lt=before)
