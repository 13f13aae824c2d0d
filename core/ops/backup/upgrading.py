"""Bringing a database up to date with the program, tried on a copy first.

1. A backup is made: what is tried is what could be restored.
2. It is restored aside, migrated there, and looked through. If that fails, nothing else happens.
3. The real database is migrated.

Nobody may write meanwhile, so the group has to be stopped.
"""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from core.ops.backup import databases, inspection, making
from core.ops.backup.archive import Archive
from core.ops.backup.errors import BackupError
from core.ops.backup.folders import working_in
from core.ops.backup.inspection import CommandFailedError

Tell = Callable[[str], None]


class UpgradeRefusedError(Exception):
    """The copy could not be migrated, so the database was left as it is. Go on with the old version of the program."""


class UpgradeFailedError(Exception):
    """The database could not be migrated, although its copy could. Restore the backup that the text names."""


def pending() -> list[str]:
    """Name the migrations that the database lacks."""
    wrapper = databases.opened()
    try:
        return databases.missing(databases.migrations_of(wrapper))
    finally:
        wrapper.close()


def run(*, tell: Tell, only_try: bool = False) -> None:
    """Raises BackupError, UpgradeRefusedError and UpgradeFailedError."""
    made = making.make()
    tell(f"Backed up: {made.path}")
    _try(made.path, tell)
    if only_try:
        return
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except Exception as error:
        raise UpgradeFailedError(
            f"{error} Move the database away, and then, with the old version: manage.py restore {made.path}"
        ) from error
    finally:
        connection.close()
    tell("The database is up to date.")


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
                    raise UpgradeRefusedError("; ".join(flaws))
                tell(f"A copy was migrated. {inspection.manage('audit', 'verify', environment=place)}")
    except CommandFailedError as error:
        raise UpgradeRefusedError(str(error)) from error
    except OSError as error:
        raise BackupError(f"No copy can be made aside: {error.strerror or error}.") from error
