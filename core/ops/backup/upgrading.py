"""Bringing a database up to date with the program, tried on a copy first.

1. A backup is made: what is tried is what could be restored.
2. It is restored aside, migrated there, and looked through. If that fails, nothing else happens.
3. The real database is migrated.

Nobody may write meanwhile, so the group has to be stopped, on every machine.
"""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from core.models import Process
from core.ops.backup import catalogue, databases, inspection, making
from core.ops.backup.archive import Archive
from core.ops.backup.errors import BackupError, BusyError
from core.ops.backup.folders import working_in
from core.ops.backup.inspection import CommandFailedError
from core.ops.heartbeat import living

Tell = Callable[[str], None]


class UpgradeRefusedError(BackupError):
    """The copy could not be migrated, so the database was left as it is. Go on with the old version of the program."""


class UpgradeFailedError(BackupError):
    """The database could not be migrated, although its copy could. Restore the backup that the text names."""


def bring_up_to_date(*, tell: Tell, only_try: bool = False) -> None:
    """Make the tables of an empty database; upgrade one of an older version.

    Raises BackupError; where it is no UpgradeFailedError, the database was left as it is.
    """
    if not databases.ours().why_not_empty():
        if not only_try:
            _migrate()
        tell(f"The database was empty. Its tables {'would be' if only_try else 'are'} made.")
    elif pending := _pending():
        _refuse_while_it_runs()
        tell(f"{len(pending)} migrations are to be applied: {', '.join(pending)}")
        _upgrade(tell, only_try=only_try)
    else:
        if not only_try:
            _migrate()  # roles and permissions come with the program, not with migrations
        tell("The database is up to date.")


def _pending() -> list[str]:
    """Name the migrations that the database lacks. Raises BackupError where it has some that this program lacks."""
    wrapper = databases.opened()
    try:
        applied = databases.migrations_of(wrapper)
    finally:
        wrapper.close()
    if names := databases.unknown(applied):
        raise BackupError(
            f"The database belongs to a newer version of this program ({', '.join(names[:5])}). Go on with that, or"
            " restore a backup that this version made into an empty place."
        )
    return databases.missing(applied)


def _refuse_while_it_runs() -> None:
    running = {role.label.lower(): len(living(role)) for role in Process.Role}
    if found := ", ".join(f"{count} {role}" for role, count in running.items() if count):
        raise BusyError(f"Processes run on this database ({found}). Stop them first, on every machine.")


def _upgrade(tell: Tell, *, only_try: bool) -> None:
    made = making.make()
    tell(f"Backed up: {made.path}")
    _try(made.path, tell)
    if only_try:
        return
    _refuse_while_it_runs()  # who has begun meanwhile may have written what is not in the backup
    try:
        _migrate()
    except Exception as error:
        raise UpgradeFailedError(
            f"{error} Move the database away, and then, with the old version: manage.py restore {made.path}"
        ) from error
    catalogue.reconcile()
    tell("The database is up to date.")


def _migrate() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    finally:
        connection.close()


def _try(path: Path, tell: Tell) -> None:
    """Migrate a copy of what was backed up."""
    database = databases.ours()
    try:
        with working_in(settings.BACKUP_DIR) as part, Archive.open(path) as archive:
            dump = part / database.member
            archive.extract(database.member, dump)
            with database.aside(dump, archive.manifest.database_bytes) as copy:
                place = {"DATABASE_URL": copy.url}
                inspection.manage("migrate", "--no-input", "-v0", environment=place)
                if flaws := database.flaws(copy.wrapper):
                    raise _refused("; ".join(flaws))
                tell(f"A copy was migrated. {inspection.manage('audit', 'verify', environment=place)}")
    except CommandFailedError as error:
        raise _refused(str(error)) from error
    except OSError as error:
        raise BackupError(f"No copy can be made aside: {error.strerror or error}.") from error


def _refused(reason: str) -> UpgradeRefusedError:
    return UpgradeRefusedError(f"The copy could not be migrated; the database is as it was: {reason}")
