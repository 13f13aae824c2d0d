"""manage.py backup [drill | list]"""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from core import audit
from core.formats import age, size
from core.models import Backup, MaintenanceRun
from core.ops import maintenance
from core.ops.backup import catalogue, drill
from core.ops.backup.errors import BackupError
from core.ops.jobs.backup import BACK_UP, DRILL


class Command(BaseCommand):
    help = "Back everything up, or try a backup. Ends with 1 when something is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")
        what = parser.add_subparsers(dest="what", metavar="COMMAND")
        trial = what.add_parser("drill", help="restore the newest backup aside, and look whether everything is there")
        trial.add_argument("archive", nargs="?", type=Path, metavar="ARCHIVE", help="this one instead of the newest")
        what.add_parser("list", help="list the backups, the newest first")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "list":
            self._list()
        elif options["what"] == "drill" and options["archive"]:
            self._drill(options["archive"], is_dry=options["dry_run"])
        else:
            self._run(DRILL if options["what"] else BACK_UP, is_dry=options["dry_run"])

    def _run(self, name: str, *, is_dry: bool) -> None:
        """Run the job, so that there is a row of it, and operators are told when it fails."""
        if is_dry:
            self.stdout.write(maintenance.preview(name))
            return
        with audit.acting(credential="command"):
            row = maintenance.run(name, trigger=MaintenanceRun.Trigger.COMMAND)
        if row is None:
            raise CommandError("Another process does it just now.")
        if row.status == MaintenanceRun.Status.FAILED:
            raise CommandError(row.error)
        self.stdout.write(row.summary)

    def _drill(self, archive: Path, *, is_dry: bool) -> None:
        if is_dry:
            self.stdout.write(f"{archive} would be restored aside, and looked through.")
            return
        try:
            report = drill.run(archive)
        except BackupError as error:
            raise CommandError(str(error)) from error
        for line in report.found:
            self.stdout.write(line)
        if not report.has_passed:
            raise CommandError("\n".join(report.wrong))
        self.stdout.write(f"It holds. Restoring and checking it took {report.seconds:.1f} s.")

    def _list(self) -> None:
        catalogue.reconcile()
        for backup in Backup.objects.all():
            state = "the file is gone" if backup.missing_since else backup.get_verdict_display() or "never tried"
            secrets = "with secrets" if backup.has_secrets else "without secrets"
            old = age(backup.created_at, timezone.now())
            self.stdout.write(f"{backup.name}  {size(backup.size_bytes)}  {old} old  {secrets}  {state}")
