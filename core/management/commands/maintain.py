"""manage.py maintain"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import audit
from core.formats import NOTHING
from core.models import MaintenanceRun
from core.ops import maintenance


class Command(BaseCommand):
    help = "Run maintenance jobs now. Each run is recorded, as those of the schedules are."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--list", action="store_true", help="list the jobs")
        what.add_argument("--job", action="append", metavar="NAME", help="run this job; may be given several times")
        what.add_argument("--all", action="store_true", help="run every job")
        parser.add_argument("--dry-run", action="store_true", help="say what each would do, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        jobs = maintenance.jobs()
        if options["list"]:
            width = max(len(job.name) for job in jobs)
            for job in jobs:
                self.stdout.write(f"{job.name:<{width}}  {job.title}")
            return
        names = [job.name for job in jobs] if options["all"] else options["job"]
        if unknown := sorted(set(names) - {job.name for job in jobs}):
            raise CommandError(f"No such job: {', '.join(unknown)}. --list lists them.")
        if options["dry_run"]:
            for name in names:
                self._preview(name)
            return
        with audit.acting(credential="command"):
            succeeded = [self._run(name) for name in names]
        if not all(succeeded):
            raise CommandError("Not every job succeeded.")

    def _preview(self, name: str) -> None:
        self.stdout.write(f"{name}: {maintenance.preview(name)}")
        for figure, value in sorted(maintenance.figures(name).items()):
            self.stdout.write(f"  {figure}: {value}")

    def _run(self, name: str) -> bool:
        row = maintenance.run(name, trigger=MaintenanceRun.Trigger.COMMAND)
        if row is None:
            self.stderr.write(f"{name}: another process runs it just now.")
            return False
        if row.status == MaintenanceRun.Status.FAILED:
            self.stderr.write(f"{name}: failed: {row.error}")
            return False
        self.stdout.write(f"{name}: {row.summary} ({row.duration_seconds:.2f} s)")
        for figure in sorted({*row.before, *row.after}):
            self.stdout.write(f"  {figure}: {row.before.get(figure, NOTHING)} -> {row.after.get(figure, NOTHING)}")
        return True
