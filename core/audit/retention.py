"""Removing the oldest entries, where an operator has said for how many days the log is kept.

1. A signed checkpoint is chosen up to which every entry is older than that. The newest entry of all stays.
2. The chain is checked up to it: a log that was tampered with is evidence, and nothing of it is removed.
3. The entries are written into a file, with the checkpoint beside it, unless the operator wants no archive.
4. Batch by batch, the beginning of the chain is moved behind them and they are deleted, in one transaction each: the
   chain holds whenever this is interrupted. The first of them also writes the entry that tells of it.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Min
from django.utils import timezone

from core.audit import checkpoints, export, verification
from core.audit.entries import record
from core.audit.seal import head
from core.models import AuditCheckpoint, AuditEntry

BATCH = 2000  # rows for each transaction, so that others get their turn in between


@dataclass(frozen=True)
class Removal:
    """What is removed: the entries from one place to another. archive: the file that has them now, if one has."""

    first: int
    last: int
    archive: Path | None = None

    def __str__(self) -> str:
        kept = f"kept in {self.archive}" if self.archive else "without an archive"
        return f"Entries {self.first} to {self.last} of the audit log were removed for their age, {kept}."


def due() -> AuditCheckpoint | None:
    """Find the newest checkpoint up to which everything is older than the log is kept; None: nothing is to go."""
    if not settings.AUDIT_KEEP_DAYS:
        return None
    kept_since = timezone.now() - timedelta(days=settings.AUDIT_KEEP_DAYS)
    young = AuditEntry.objects.sealed().filter(created_at__gte=kept_since).aggregate(first=Min("sequence"))["first"]
    end = young or head()[0]  # what comes next is sealed upon the newest entry, so that one stays
    return AuditCheckpoint.objects.filter(sequence__gt=removed(), sequence__lt=end).order_by("-sequence").first()


def planned() -> Removal | None:
    """Tell what `remove_old` would remove now."""
    checkpoint = due()
    return _until(checkpoint) if checkpoint else None


def removed() -> int:
    """How many entries were removed so far."""
    begun = checkpoints.beginning()
    return begun.sequence if begun else 0


def remove_old() -> Removal | None:
    """Remove what is too old; None where nothing is. Raises LogDamagedError, OSError; then nothing is removed."""
    checkpoint = due()
    if checkpoint is None:
        return None
    verification.check_until(checkpoint.sequence)
    removal = _until(checkpoint)
    if settings.AUDIT_ARCHIVE:
        removal = Removal(removal.first, removal.last, _archive(removal, checkpoint, settings.AUDIT_ARCHIVE))
    ends = [*range(removed() + BATCH, removal.last, BATCH), removal.last]
    for place in ends:
        with transaction.atomic():
            if place == ends[0]:
                record("audit-log.shortened", detail=str(removal))
            _remove_until(place)
    return removal


def _until(checkpoint: AuditCheckpoint) -> Removal:
    return Removal(removed() + 1, checkpoint.sequence)


def _remove_until(place: int) -> None:
    entries = AuditEntry.objects.filter(sequence__lte=place)
    until = entries.aggregate(newest=Max("created_at"))["newest"]
    checkpoints.begin_behind(place, entries.get(sequence=place).seal, until)
    with connection.cursor() as cursor:  # the database lets go of what is behind the beginning, and of nothing else
        cursor.execute("DELETE FROM core_auditentry WHERE sequence <= %s", [place])


def _archive(removal: Removal, checkpoint: AuditCheckpoint, folder: Path) -> Path:
    """Write the entries and the checkpoint at their end into files; returns the former when both are on the disk."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / f"audit-{removal.first}-{removal.last}.jsonl"
    entries = AuditEntry.objects.filter(sequence__gte=removal.first, sequence__lte=removal.last)
    _write(file, export.json_lines(entries))
    _write(file.with_suffix(".checkpoint.json"), [checkpoints.document(checkpoint)])
    return file


def _write(path: Path, texts: Iterable[str]) -> None:
    """Write a file, for its owner alone, that is either whole or not there."""
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    with part.open("w") as file:
        file.writelines(texts)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
