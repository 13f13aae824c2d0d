"""The log as JSON Lines: one entry a line, oldest first."""

import json
from collections.abc import Iterator
from datetime import datetime

from django.db.models import QuerySet

from core.audit.seal import BATCH, COLUMNS, text_of
from core.models import AuditEntry


def json_lines(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """Write entries as they are asked for, a batch at a time, however many there are."""
    rows = entries.order_by("id").values(*COLUMNS)
    last = 0
    while batch := list(rows.filter(id__gt=last)[:BATCH]):
        for row in batch:
            yield json.dumps(row, default=text_of, ensure_ascii=False) + "\n"
        last = batch[-1]["id"]


def document(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """Write entries for somebody to take along, and a last line that tells how many: what broke off has none."""
    count = 0
    for line in json_lines(entries):
        yield line
        count += 1
    yield json.dumps({"exported": count}) + "\n"


def between(since: datetime | None, until: datetime | None) -> QuerySet[AuditEntry]:
    """Entries from a moment on, and before another."""
    entries = AuditEntry.objects.all()
    if since is not None:
        entries = entries.filter(created_at__gte=since)
    if until is not None:
        entries = entries.filter(created_at__lt=until)
    return entries
