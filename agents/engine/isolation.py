"""Suspects run apart: a task under which two processes died may be what killed them.

1. Suspects run in quarantine: a child process of the worker that holds suspects only.
2. If it crashes, those that were in it together run alone next time, each in a quarantine of its own.
3. One that was alone in its quarantine when it crashed is poison and fails.

If the worker dies, its quarantine dies with it, and nothing was proven: the tasks start over as suspects as before.
The child is forked from a server process that has everything imported, because the death of a busy worker makes many
suspects at once.
"""

import enum
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection

from django.db import connection

from agents.engine import operations
from agents.engine.grant import Ticket
from agents.engine.process import writer
from agents.engine.runs import Run, StopReason, runs
from agents.engine.wakeups import publisher
from agents.models import AgentTask
from core import tracing

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
# How long a quarantine may take to let go of a task that it has lost, before it is ended with all that is in it.
LET_GO_SECONDS = 10.0
STOP_SECONDS = 4.0
ALONE_AT_A_TIME = 4
# How a process ends that somebody stopped; any other signal is a crash.
STOPPED_BY = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["core.ops.django_ready", "agents.engine.execution"])


class Ending(enum.Enum):
    """How a suspect's stay in quarantine ended."""

    RETURNED = "returned"  # its run ended, however it did
    STOPPED = "stopped"  # the process was stopped, and with it the run
    CRASHED_TOGETHER = "crashed together"
    CRASHED_ALONE = "crashed alone"


class Quarantine:
    """A process for suspects. It ends with the last of them; then it takes no more."""

    def __init__(self) -> None:
        """Start the process. Raises OSError."""
        self._lock = threading.Lock()
        self._inmates: dict[Ticket, Future[Ending]] = {}
        self._is_closed = False
        self._was_killed = False
        self._pipe, its_end = _forking.Pipe()
        self._child = _forking.Process(target=_serve, args=(its_end,), name="quarantine", daemon=True)
        self._child.start()
        its_end.close()
        threading.Thread(target=self._listen, name="engine-quarantine", daemon=True).start()

    def take(self, ticket: Ticket) -> "Future[Ending] | None":
        """Have a suspect run; the future tells how that ended. None when it is too late for this quarantine."""
        with self._lock:
            if self._is_closed or not self._send(ticket):
                return None
            ending = self._inmates[ticket] = Future()
        return ending

    def stop(self) -> None:
        """Have the process give its tasks back and end."""
        with self._lock:
            self._close()

    def kill(self) -> None:
        """End the process at once; that proves nothing against those in it."""
        with self._lock:
            self._is_closed = self._was_killed = True
            self._child.kill()

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._send(None)

    def _send(self, ticket: Ticket | None) -> bool:
        try:
            self._pipe.send(ticket)
        except OSError:  # it has died
            return False
        return True

    def _listen(self) -> None:
        """Let out whose run has ended; at the end of the process, all that are left."""
        try:
            while True:
                self._let_out(self._pipe.recv())
        except (EOFError, OSError):
            self._child.join()
        with self._lock:
            self._is_closed = True
            left, self._inmates = self._inmates, {}
        ending = self._judge(self._child.exitcode or 0, len(left))
        for future in left.values():
            future.set_result(ending)
        self._pipe.close()

    def _let_out(self, ticket: Ticket) -> None:
        with self._lock:
            future = self._inmates.pop(ticket)
            if not self._inmates:
                self._close()
        future.set_result(Ending.RETURNED)

    def _judge(self, exit_code: int, inmates: int) -> Ending:
        if self._was_killed or exit_code >= 0 or exit_code in STOPPED_BY:
            return Ending.STOPPED
        logger.error("The quarantine crashed (%s) with %d tasks in it.", signal.Signals(-exit_code).name, inmates)
        return Ending.CRASHED_ALONE if inmates == 1 else Ending.CRASHED_TOGETHER


class _Wing:
    """The quarantine that suspects share; there is a new one when the last has closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quarantine: Quarantine | None = None

    def admit(self, ticket: Ticket) -> tuple[Quarantine, "Future[Ending]"]:
        with self._lock:
            while True:
                if self._quarantine is not None and (ending := self._quarantine.take(ticket)):
                    return self._quarantine, ending
                self._quarantine = Quarantine()


_shared = _Wing()
_alone = threading.BoundedSemaphore(ALONE_AT_A_TIME)


def run_apart(ticket: Ticket) -> Ticket | None:
    """Run a suspect in quarantine and draw the conclusion. Returns the ticket of the next task, if there is one."""
    connection.close()  # the wait may be long
    current = runs.begin(ticket)  # this process answers for the lease; the child only works
    try:
        if ticket.interruptions > operations.SUSPECT_INTERRUPTIONS:
            with _alone:
                ending = _stay(_Wing(), ticket, current)
        else:
            ending = _stay(_shared, ticket, current)
    finally:
        runs.end(current)
    if current.stop_reason is not None:
        current.give_back()
    elif ending is Ending.CRASHED_TOGETHER:
        reason = "The process that ran the task and other suspects died."
        writer.call(operations.send_back, operations.SendBack(ticket.task_id, ticket.fence, reason, "interruptions"))
    elif ending is Ending.CRASHED_ALONE:
        return _condemn(ticket)
    return None


def _stay(wing: _Wing, ticket: Ticket, current: Run) -> Ending:
    quarantine, ending = wing.admit(ticket)
    looks = 0
    while True:
        try:
            return ending.result(LOOK_SECONDS)
        except TimeoutError:
            if current.stop_reason is StopReason.STOPPING:
                quarantine.stop()
            looks += current.stop_reason is not None
            if looks * LOOK_SECONDS > LET_GO_SECONDS:
                quarantine.kill()


def _condemn(ticket: Ticket) -> Ticket | None:
    end = operations.Finish(
        ticket.task_id,
        ticket.fence,
        AgentTask.Status.FAILED,
        error_code="poison",
        error_detail="Every process that ran this task died, the last one with nothing else in it.",
    )
    return writer.call(operations.finish, end).next_ticket


# In the child -------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    """Run the tickets that come through the pipe, each in a thread, until told to stop."""
    tracing.start("quarantine")
    writer.start()
    publisher.start()
    answering = threading.Lock()
    try:
        while (ticket := pipe.recv()) is not None:
            threading.Thread(target=_work, args=(ticket, pipe, answering), daemon=True).start()
    except EOFError:  # the worker has died
        os.kill(os.getpid(), signal.SIGKILL)
    runs.close(STOP_SECONDS)
    writer.stop()
    publisher.stop(STOP_SECONDS)
    tracing.stop()


def _work(ticket: Ticket, pipe: Connection, answering: threading.Lock) -> None:
    from agents.engine.execution import execute  # noqa: PLC0415 - that module imports this one

    try:
        execute(ticket, takes_next=False)
    finally:
        connection.close()
        with answering:
            pipe.send(ticket)
