"""Suspects run apart: a task under which runners died twice runs in a process of its own.

If that process dies, nobody else was in it and its parent saw it die: the task is poison and fails. If the parent dies
too, nothing was proven; the child dies with it and the task is merely interrupted once more.
"""

import logging
import os
import subprocess
import sys

from django.conf import settings

from agents.engine import operations
from agents.engine.grant import Ticket
from agents.engine.process import writer
from agents.engine.runs import runs
from agents.models import AgentTask

logger = logging.getLogger(__name__)


def run_apart(ticket: Ticket) -> Ticket | None:
    """Run a suspect in a child process and judge it by how that process ends."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_apart"]
    command += [str(ticket.task_id), str(ticket.fence), str(os.getpid())]
    current = runs.begin(ticket)  # this process answers for the lease; the child only works
    try:
        # A group of its own: Ctrl-C on a terminal must not look as if the task had killed its process.
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0) as child:
            while True:
                try:
                    exit_code = child.wait(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    if current.stop_reason is not None:
                        child.terminate()
    finally:
        runs.end(current)
    if current.stop_reason is not None:
        current.give_back()
        return None
    if exit_code == 0:
        return None
    logger.error("Task %s ended its own process (exit code %d).", ticket.task_id, exit_code)
    finished = writer.call(
        operations.finish,
        operations.Finish(
            ticket.task_id,
            ticket.fence,
            AgentTask.Status.FAILED,
            error_code="poison",
            error_detail="Every process that ran this task died, the last one with nothing else in it.",
        ),
    )
    return finished.next_ticket
