"""Runs one suspect task in this process. Called by the worker that holds its lease; dies with it."""

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from agents.engine.execution import execute
from agents.engine.grant import Ticket
from agents.engine.process import writer
from core.ops.processes import die_with_parent


class Command(BaseCommand):
    requires_system_checks = ()  # the group has run them, and the task waits
    help = "Run one granted task in a process of its own (used by the worker for tasks under which runners died)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_id", type=uuid.UUID)
        parser.add_argument("fence", type=int)
        parser.add_argument("parent_pid", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        die_with_parent(options["parent_pid"])
        writer.start()
        execute(Ticket(options["task_id"], options["fence"], interruptions=0), takes_next=False)
        writer.stop()
