"""What a person did lately, in figures."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Avg, Count, F, Q, Sum
from django.db.models.functions import Coalesce

from agents.models import AgentTask
from core.models import User
from core.models.base import uuid7_from

Status = AgentTask.Status
LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True)
class Usage:
    """A day of a person's tasks. seconds: the mean from submission to answer; None without one."""

    tasks: int
    waiting: int
    running: int
    failed: int
    prompt_tokens: int
    output_tokens: int
    seconds: float | None


def usage_of(person: User, now: datetime) -> Usage:
    lately = AgentTask.objects.filter(owner=person, pk__gte=uuid7_from(now - LOOK_BACK))
    figures = lately.aggregate(
        tasks=Count("pk"),
        waiting=Count("pk", filter=Q(status=Status.QUEUED)),
        running=Count("pk", filter=Q(status=Status.RUNNING)),
        failed=Count("pk", filter=Q(status__in=[Status.FAILED, Status.EXPIRED])),
        prompt_tokens=Coalesce(Sum("prompt_tokens"), 0),
        output_tokens=Coalesce(Sum("output_tokens"), 0),
        length=Avg(F("finished_at") - F("created_at"), filter=Q(status=Status.SUCCEEDED)),
    )
    length: timedelta | None = figures.pop("length")
    return Usage(**figures, seconds=length.total_seconds() if length else None)
