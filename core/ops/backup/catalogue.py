"""Which backups there are, as rows that every process can read: the files themselves may be on another machine."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Min, Q
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily

from core.models import Backup, User
from core.ops import metrics
from core.ops.backup.archive import Archive
from core.ops.backup.drill import Report
from core.ops.backup.errors import DamagedError
from core.ops.backup.making import Made, archives
from core.ops.backup.manifest import Manifest
from core.ops.backup.sealed_secrets import MEMBER

TEXT = 10_000  # characters of a report that are kept
LATE = timedelta(hours=48)  # a day, and one backup that failed


def note(made: Made) -> Backup:
    """Note a new archive."""
    return _note(made.path.name, made.size_bytes, made.manifest)


def note_drill(report: Report) -> None:
    """Note what a drill found, if the archive is in the folder."""
    verdict = Backup.Verdict.PASSED if report.has_passed else Backup.Verdict.FAILED
    Backup.objects.filter(name=report.archive.name).update(
        drilled_at=timezone.now(),
        verdict=verdict,
        drill_seconds=report.seconds,
        report="\n".join(report.lines())[:TEXT],
    )


def reconcile() -> None:
    """Note archives that nobody knows here, such as those made after what was restored, and those that are gone."""
    known = set(Backup.objects.values_list("name", flat=True))
    there = {path.name: path for path in archives()}
    for name in sorted(there.keys() - known):
        path = there[name]
        try:
            with Archive.open(path) as archive:
                _note(name, path.stat().st_size, archive.manifest)
        except DamagedError as error:
            _note_damaged(path, error)
    Backup.objects.filter(name__in=there).exclude(missing_since=None).update(missing_since=None)
    Backup.objects.exclude(name__in=there).filter(missing_since=None).update(missing_since=timezone.now())


def remove_old() -> list[str]:
    """Remove archives that are too many or too old; returns their names."""
    names = [backup.name for backup in removable()]
    there = {path.name: path for path in archives()}  # a name in a row may have been restored, and lead anywhere
    for name in names:
        if name in there:
            there[name].unlink(missing_ok=True)
        Backup.objects.filter(name=name).delete()
    return names


def removable(more: int = 0) -> list[Backup]:
    """What `remove_old` would remove, once there are so many more.

    The newest good one stays whatever its age, and so does the newest that passed its drill.
    """
    found = list(Backup.objects.order_by("-created_at"))
    old = timezone.now() - timedelta(days=settings.BACKUP_KEEP_DAYS)
    good = [backup for backup in found if backup.is_good]
    passed = [backup for backup in good if backup.verdict == Backup.Verdict.PASSED]
    kept = {*good[:1], *passed[:1]}
    return [
        backup
        for place, backup in enumerate(found, 1 + more)
        if backup not in kept and (place > settings.BACKUP_KEEP or backup.created_at < old)
    ]


def newest_good() -> Backup | None:
    good = Backup.objects.filter(missing_since=None).filter(~Q(verdict=Backup.Verdict.FAILED))
    return good.order_by("-created_at").first()


def unsaved_since() -> datetime | None:
    """Since when nothing is backed up: the newest good backup, or else the first account; None: there is nothing."""
    newest = newest_good()
    if newest is not None:
        return newest.created_at
    first: datetime | None = User.objects.aggregate(first=Min("date_joined"))["first"]
    return first


@metrics.register
def backup_metrics() -> list[GaugeMetricFamily]:
    since = unsaved_since()
    if since is None:
        return []
    seconds = max(0.0, (timezone.now() - since).total_seconds())
    help_text = "Seconds since the newest good backup; where there is none, since the first account."
    return [GaugeMetricFamily("sutazai_backup_age_seconds", help_text, value=seconds)]


def _note(name: str, size: int, manifest: Manifest) -> Backup:
    facts = {
        "created_at": manifest.created_at,
        "version": manifest.version[:30],
        "size_bytes": size,
        "duration_seconds": manifest.duration_seconds,
        "rows": manifest.total_rows,
        "has_secrets": MEMBER in manifest.members,
    }
    return Backup.objects.update_or_create(name=name, defaults=facts)[0]


def _note_damaged(path: Path, error: DamagedError) -> None:
    written = path.stat()
    facts = {
        "created_at": datetime.fromtimestamp(written.st_mtime, UTC),
        "size_bytes": written.st_size,
        "drilled_at": timezone.now(),
        "verdict": Backup.Verdict.FAILED,
        "report": str(error),
    }
    Backup.objects.update_or_create(name=path.name, defaults=facts)
