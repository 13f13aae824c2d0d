"""manage.py upgrade"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from core.ops import data_folder
from core.ops.backup import upgrading
from core.ops.backup.errors import BackupError


class Command(BaseCommand):
    help = "Migrate a copy of the database first, and the database itself only when that went well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="try it on a copy, and stop there")

    def handle(self, *args: Any, **options: Any) -> None:
        with data_folder.owned("Stop it before the upgrade."):
            try:
                upgrading.bring_up_to_date(tell=self.stdout.write, only_try=options["dry_run"])
            except BackupError as error:
                raise CommandError(str(error)) from error
            except OperationalError as error:
                raise CommandError(f"The database cannot be used: {error}") from error
