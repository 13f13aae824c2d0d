"""manage.py upgrade"""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from core.ops import data_folder
from core.ops.backup import catalogue, databases, upgrading
from core.ops.backup.errors import BackupError
from core.ops.heartbeat import living_workers


class Command(BaseCommand):
    help = "Migrate a copy of the database first, and the database itself only when that went well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="try it on a copy, and stop there")

    def handle(self, *args: Any, **options: Any) -> None:
        with data_folder.owned("Stop it before the upgrade."):
            try:
                self._look(is_dry=options["dry_run"])
            except OperationalError as error:
                raise CommandError(f"The database cannot be used: {error}") from error

    def _look(self, *, is_dry: bool) -> None:
        if not databases.ours().why_not_empty():
            self._begin(is_dry=is_dry)
        elif pending := upgrading.pending():
            self._upgrade(pending, only_try=is_dry)
        else:
            self.stdout.write("The database is up to date.")

    def _begin(self, *, is_dry: bool) -> None:
        if not is_dry:
            call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(f"The database was empty. Its tables {'would be' if is_dry else 'are'} made.")

    def _upgrade(self, pending: list[str], *, only_try: bool) -> None:
        if count := living_workers():
            raise CommandError(f"{count} workers run on this database. Stop them, and every web process, first.")
        self.stdout.write(f"{len(pending)} migrations are to be applied: {', '.join(pending)}")
        try:
            upgrading.run(tell=self.stdout.write, only_try=only_try)
        except upgrading.UpgradeRefusedError as error:
            raise CommandError(f"The copy could not be migrated; the database is as it was: {error}") from error
        except (upgrading.UpgradeFailedError, BackupError) as error:
            raise CommandError(str(error)) from error
        if not only_try:
            catalogue.reconcile()
