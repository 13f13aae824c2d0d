"""How long tasks hold their slots, by place: measured from rows now and then, so that no task pays for it."""

from collections import defaultdict
from datetime import datetime, timedelta

from django.db.models import F, Value
from django.db.models.functions import Coalesce

from agents.models import AgentTask, NodeModel

SAMPLE = 500  # tasks; the latest
FIRST_WINDOW = timedelta(minutes=10)
# Each task counts a tenth: after twenty, what was before has nearly been forgotten.
FADES = 0.9


def measure(since: datetime | None, now: datetime) -> datetime:
    """Take in the tasks that ended since a moment, or lately; returns the moment up to which that is done."""
    rows = AgentTask.objects.filter(finished_at__gt=since or now - FIRST_WINDOW, finished_at__lte=now)
    ended = rows.order_by("-finished_at").values_list("status", "node_model_id", "granted_at", "finished_at")
    seconds: dict[int, list[float]] = defaultdict(list)
    # The status is looked at here: in the query it would tempt SQLite to read every answer there ever was.
    for status, place_id, granted_at, finished_at in ended[:SAMPLE]:
        if status == AgentTask.Status.SUCCEEDED and place_id and granted_at and finished_at:
            seconds[place_id].append(max(0.0, (finished_at - granted_at).total_seconds()))
    for place_id, measured in seconds.items():
        mean, kept = sum(measured) / len(measured), FADES ** len(measured)
        before = Coalesce(F("service_seconds"), Value(mean))
        NodeModel.objects.filter(pk=place_id).update(service_seconds=before * kept + mean * (1 - kept))
    return now
