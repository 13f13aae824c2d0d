"""manage.py ensure_schedules"""

from typing import Any

from django.core.management.base import BaseCommand

from core.ops import schedules


class Command(BaseCommand):
    help = "Make the schedules that are missing; those that were edited stay as they are."

    def handle(self, *args: Any, **options: Any) -> None:
        made = schedules.ensure()
        self.stdout.write(f"Made: {', '.join(made)}." if made else "All schedules exist.")
