"""Which backups there are, as rows that every process can read: the files themselves may be on another machine."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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


def note(made: Made) -> Backup:
    """Note a new archive."""
    facts = _facts(made.size_bytes, made.manifest)
    return Backup.objects.update_or_create(name=made.path.name, defaults=facts)[0]


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
        Backup.objects.update_or_create(name=name, defaults=_look_at(there[name]))
    Backup.objects.filter(name__in=there).exclude(missing_since=None).update(missing_since=None)
    Backup.objects.exclude(name__in=there).filter(missing_since=None).update(missing_since=timezone.now())


def remove_old() -> list[str]:
    """Remove archives that are too old, or for which there are enough newer good ones; returns their names."""
    names = _removable(Backup.objects.all())
    there = {path.name: path for path in archives()}  # a name in a row may have been restored, and lead anywhere
    for name in names:
        if name in there:
            there[name].unlink(missing_ok=True)
        Backup.objects.filter(name=name).delete()
    return names


def removable_after_one_more() -> list[str]:
    """Name what `remove_old` would remove once another backup was made; for a dry run, so that nothing is noted."""
    known = {backup.name: backup for backup in Backup.objects.all()}
    there = {path.name: path for path in archives()}
    for name, backup in known.items():
        backup.missing_since = None if name in there else timezone.now()
    unknown = [Backup(name=name, **_look_at(there[name])) for name in there.keys() - known.keys()]
    return _removable([Backup(name="the new one", created_at=timezone.now()), *known.values(), *unknown])


def _removable(backups: Iterable[Backup]) -> list[str]:
    """Name those that are too old, and those for which there are enough newer good ones.

    The newest good one stays whatever its age, and so does the newest that passed its drill.
    """
    found = sorted(backups, key=lambda backup: backup.created_at, reverse=True)
    old = timezone.now() - timedelta(days=settings.BACKUP_KEEP_DAYS)
    good = [backup for backup in found if backup.is_good]
    passed = [backup for backup in good if backup.verdict == Backup.Verdict.PASSED]
    kept = {*good[:1], *passed[:1]}
    enough_since = good[settings.BACKUP_KEEP - 1].created_at if len(good) >= settings.BACKUP_KEEP else old
    return [backup.name for backup in found if backup not in kept and backup.created_at < max(old, enough_since)]


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


def _look_at(path: Path) -> dict[str, Any]:
    """What an archive tells of itself; one that cannot be read counts as tried."""
    try:
        with Archive.open(path) as archive:
            return _facts(path.stat().st_size, archive.manifest)
    except DamagedError as error:
        return _facts_of_damaged(path, error)


def _facts(size: int, manifest: Manifest) -> dict[str, Any]:
    return {
        "created_at": manifest.created_at,
        "version": manifest.version[:30],
        "size_bytes": size,
        "duration_seconds": manifest.duration_seconds,
        "rows": manifest.total_rows,
        "has_secrets": MEMBER in manifest.members,
    }


def _facts_of_damaged(path: Path, error: DamagedError) -> dict[str, Any]:
    written = path.stat()
    return {
        "created_at": datetime.fromtimestamp(written.st_mtime, UTC),
        "size_bytes": written.st_size,
        "drilled_at": timezone.now(),
        "verdict": Backup.Verdict.FAILED,
        "report": str(error),
    }
