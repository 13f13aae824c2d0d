"""manage.py doctor"""

import json
import sys
import textwrap
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core.logs import mask, one_line
from core.ops import doctor
from core.ops.doctor import Report, Verdict

WIDTH = 80


class Command(BaseCommand):
    help = (
        "Look at settings, versions, files, clocks, tables, schedules and everything that the program depends on, and "
        "say how to mend what is wrong. Ends with 1 when something is; what is only doubtful does not count."
    )
    requires_system_checks = ()  # they are among what is looked at
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(doctor.examine())
        errors = sum(report.diagnosis.verdict == Verdict.ERROR for report in found)
        if options["json"]:
            self.stdout.write(json.dumps({"healthy": not errors, "found": list(map(_as_dict, found))}))
        else:
            self.stdout.write("\n".join([line for report in found for line in _lines(report)]))
            doubts = sum(report.diagnosis.verdict == Verdict.WARNING for report in found)
            self.stdout.write(f"\n{errors} to mend, {doubts} doubtful, {len(found) - errors - doubts} well.")
        if errors:
            sys.exit(1)


def _as_dict(report: Report) -> dict[str, str]:
    told = report.diagnosis
    return {"area": report.area, "verdict": told.verdict, "text": mask(told.text), "mend": told.mend}


def _lines(report: Report) -> list[str]:
    """The area and the verdict, then what was found and how to mend it, set in."""
    told = report.diagnosis
    beginning = f"{report.area:<17} {told.verdict:<8} "
    lines = textwrap.wrap(one_line(mask(told.text)), WIDTH, initial_indent=beginning, subsequent_indent=" " * 27)
    if told.mend:
        lines += textwrap.wrap(one_line(told.mend), WIDTH, initial_indent=" " * 24 + "-> ", subsequent_indent=" " * 27)
    return lines
