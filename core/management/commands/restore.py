"""manage.py restore ARCHIVE"""

import getpass
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from core import audit
from core.ops import data_folder
from core.ops.backup import restoring
from core.ops.backup.errors import BackupError, WrongPassphraseError


class Command(BaseCommand):
    help = (
        "Restore a backup into an empty place: a data folder without a database, or an empty PostgreSQL database. "
        "Ends with 1 when it refuses, or when something is wrong with what it restored."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("archive", type=Path)
        parser.add_argument(
            "--without-secrets",
            action="store_true",
            help="leave the secrets in the archive alone, because the right ones are in place",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with data_folder.owned("Stop it before you restore."), audit.acting(credential="command"):
            try:
                wrong = self._restore(options["archive"], without_secrets=options["without_secrets"])
            except BackupError as error:
                raise CommandError(str(error)) from error
            except OperationalError as error:
                raise CommandError(f"The database cannot be used: {error}") from error
        if wrong:
            raise CommandError("It is restored, but something is wrong with it:\n" + "\n".join(wrong))
        self.stdout.write("Everything is there. Start the program.")

    def _restore(self, archive: Path, *, without_secrets: bool) -> list[str]:
        try:
            return restoring.restore(archive, tell=self.stdout.write, without_secrets=without_secrets)
        except WrongPassphraseError:
            if settings.BACKUP_PASSPHRASE or not sys.stdin.isatty():
                raise
        settings.BACKUP_PASSPHRASE = getpass.getpass("Passphrase of the backup: ")
        return restoring.restore(archive, tell=self.stdout.write, without_secrets=without_secrets)
