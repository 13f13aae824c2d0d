"""Suspects run apart: a task under which runners died twice runs in a process of its own.

If that process crashes, nobody else was in it and its parent saw it crash: the task is poison and fails. If the parent
dies too, nothing was proven; the child dies with it and the task is merely interrupted once more. Children are forked
from a server process that has everything imported, because the death of a busy worker makes many suspects at once.
"""

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

from django.db import connection

from agents.engine import operations
from agents.engine.grant import Ticket
from agents.engine.process import writer
from agents.engine.runs import Run, runs
from agents.models import AgentTask

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
# How a process ends that somebody stopped; any other signal is a crash.
STOPPED_BY = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["core.ops.django_ready", "agents.engine.execution"])


def run_apart(ticket: Ticket) -> Ticket | None:
    """Run a suspect in a child process and judge it by how that process ends."""
    connection.close()  # the wait may be long
    current = runs.begin(ticket)  # this process answers for the lease; the child only works
    try:
        child = _forking.Process(target=_work, args=(ticket,), name=f"suspect {ticket.task_id}", daemon=True)
        child.start()
        _wait_for(child, current)
    finally:
        runs.end(current)
    if current.stop_reason is not None:
        current.give_back()
        return None
    exit_code = child.exitcode or 0
    if exit_code >= 0 or exit_code in STOPPED_BY:
        # It wrote its own end, or it did not and the lease runs out.
        return None
    logger.error("Task %s crashed its own process (%s).", ticket.task_id, signal.Signals(-exit_code).name)
    return _condemn(ticket)


def _wait_for(child: BaseProcess, current: Run) -> None:
    while child.is_alive():
        child.join(LOOK_SECONDS)
        if current.stop_reason is not None:
            child.terminate()


def _condemn(ticket: Ticket) -> Ticket | None:
    end = operations.Finish(
        ticket.task_id,
        ticket.fence,
        AgentTask.Status.FAILED,
        error_code="poison",
        error_detail="Every process that ran this task died, the last one with nothing else in it.",
    )
    return writer.call(operations.finish, end).next_ticket


def _work(ticket: Ticket) -> None:
    """What the child does."""
    from agents.engine.execution import execute  # noqa: PLC0415 - that module imports this one

    threading.Thread(target=_die_with_parent, name="engine-parent-watch", daemon=True).start()
    writer.start()
    execute(ticket, takes_next=False)
    writer.stop()


def _die_with_parent() -> None:
    """End this process when the worker has died. Its kernel parent is the fork server, which lives on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
