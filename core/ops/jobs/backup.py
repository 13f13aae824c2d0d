"""Backups, made every day and tried every week; operators hear of it when one fails."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Sum
from django.utils import timezone

from core.formats import age, size
from core.models import Backup, User
from core.models.roles import STAFF
from core.notifications import Event, News, notify, register, webhooks
from core.ops import maintenance
from core.ops.backup import catalogue, drill, making
from core.ops.backup.errors import BackupError

logger = logging.getLogger(__name__)

BACK_UP, DRILL = "back_up", "drill_backup"
PAGE = "/admin/core/backup/"
SHOWN = 400

FAILED = register(
    Event(
        name="backup-failed",
        label="Backup failed",
        description="A backup was not made, or one that was tried cannot be relied on. Once a day until it is read.",
        email=True,
        webhook=True,
        roles=frozenset(STAFF),
    )
)


class DrillFailedError(RuntimeError):
    """The newest backup cannot be relied on. Make another one, and try that."""


def _figures() -> Mapping[str, int]:
    kept = Backup.objects.filter(missing_since=None)
    return {"backups": kept.count(), "backup_bytes": kept.aggregate(total=Sum("size_bytes"))["total"] or 0}


def _would_back_up() -> str:
    names = catalogue.removable_after_one_more()
    secrets = "with" if settings.BACKUP_PASSPHRASE else "without"
    old = f" Then it would remove {', '.join(names)}." if names else " It would remove none."
    return f"It would write a backup {secrets} the secrets to {settings.BACKUP_DIR}.{old}"


def _would_drill() -> str:
    newest = next(iter(making.archives()), None)
    return f"It would restore {newest} aside." if newest else f"There is no backup in {settings.BACKUP_DIR}."


def _telling(title: str) -> Callable[[maintenance.Work], maintenance.Work]:
    """Have the operators told when the decorated work fails."""

    def decorate(work: maintenance.Work) -> maintenance.Work:
        def told() -> str:
            try:
                return work()
            except Exception as error:
                try:
                    _tell_operators(title, str(error), timezone.now())
                except DatabaseError:  # what failed is more important
                    logger.exception("The operators were not told that a backup failed.")
                raise

        return told

    return decorate


def _tell_operators(title: str, text: str, now: datetime) -> None:
    people = User.objects.filter(role__in=STAFF, is_active=True).values_list("pk", flat=True)
    text, day = text[:SHOWN], f"{now:%Y-%m-%d}"
    with transaction.atomic():
        notify(FAILED, [News(key, title, PAGE, text, collapse_key=day) for key in people], now)
        webhooks.tell(FAILED, [webhooks.Message(title, PAGE, text, collapse_key=day)], now)


@maintenance.job(
    BACK_UP, "Back up the database, files and secrets", figures=_figures, preview=_would_back_up, is_long=True
)
@_telling("Backup failed")
def back_up() -> str:
    catalogue.reconcile()
    made = making.make()
    catalogue.note(made)
    removed = catalogue.remove_old()
    secrets = "" if settings.BACKUP_PASSPHRASE else " It holds no secrets: SUTAZAI_BACKUP_PASSPHRASE is not set."
    old = f" Removed {len(removed)} old ones." if removed else ""
    return f"{made.path.name}: {size(made.size_bytes)}, {made.manifest.total_rows} rows.{old}{secrets}"


@maintenance.job(
    DRILL, "Try whether the newest backup can be restored", figures=_figures, preview=_would_drill, is_long=True
)
@_telling("Backup failed its drill")
def drill_backup() -> str:
    catalogue.reconcile()
    newest = next(iter(making.archives()), None)
    if newest is None:
        raise BackupError(f"There is no backup in {settings.BACKUP_DIR}.")
    report = drill.run(newest)
    catalogue.note_drill(report)
    if not report.has_passed:
        raise DrillFailedError(f"{newest.name}: {'; '.join(report.wrong)}")
    made_at = Backup.objects.values_list("created_at", flat=True).get(name=newest.name)
    return f"{newest.name}, {age(made_at)} old, was restored and holds; it took {report.seconds:.1f} s."
