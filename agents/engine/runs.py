"""The runs of this process: keeps their leases alive and ends those that lost their task.

A run blocked on a silent model cannot look after itself. One thread looks after all: every second it asks whether each
run still owns its task (it does not once the task was cancelled, expired or taken over) and every ten it renews the
leases. Whoever lost its task has its connection shut down and stops.
"""

import enum
import logging
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from django.conf import settings
from django.db import connection

from agents.engine import counts, node_health
from agents.engine.grant import Ticket
from agents.engine.operations import Renew, SendBack, renew, send_back, still_held
from agents.engine.process import writer
from core.net.interrupts import Interrupt
from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Stoppable(Protocol):
    """What ends the work of a run, whatever it waits for; safe from any thread, and more than once."""

    def shutdown(self) -> None: ...


class StopReason(enum.Enum):
    LOST = "lost"  # cancelled, expired, or another run owns the task
    STOPPING = "stopping"  # this process stops gracefully


@dataclass(eq=False)
class Run:
    """One run of a task in this process. takes_next: whether its thread goes on with another task."""

    ticket: Ticket
    takes_next: bool = False
    interrupt: Stoppable = field(default_factory=Interrupt)
    stop_reason: StopReason | None = None
    renewed_at: float = field(default_factory=time.monotonic)
    renewal: "Future[bool] | None" = None

    @property
    def lease(self) -> Renew:
        return Renew(self.ticket.task_id, self.ticket.fence)

    def renewed(self, moment: float, renewal: "Future[bool]") -> None:
        """Note how a renewal that was asked for at a moment ended. Nobody waits for it: the database may be away."""
        if renewal.exception() is not None:
            logger.warning("The lease of task %s was not renewed: %s", self.ticket.task_id, renewal.exception())
        elif renewal.result():
            self.renewed_at = moment
        else:
            self.lose_lease()

    def lose_lease(self) -> None:
        """Make the run end: its task may be another's by now."""
        if self.stop_reason is None:
            counts.leases_lost.inc()
        self.stop(StopReason.LOST)

    def stop(self, reason: StopReason) -> None:
        """Make the run end: shut its connection down, whatever it waits for."""
        if self.stop_reason is None:
            self.stop_reason = reason
        self.interrupt.shutdown()

    def give_back(self) -> None:
        """After a graceful stop, return the task, and count no interruption; a lost one is not ours to return."""
        if self.stop_reason is StopReason.STOPPING:
            change = SendBack(self.ticket.task_id, self.ticket.fence, "The runner was stopped.")
            writer.call(send_back, change)


class Runs:
    """All runs of this process. After `close` none begins."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        return len(self._runs)

    def holds(self, task_id: uuid.UUID, fence: int) -> bool:
        """Tell whether a run of this process has the task under this fence."""
        with self._changed:
            return any((run.ticket.task_id, run.ticket.fence) == (task_id, fence) for run in self._runs)

    def begin(self, ticket: Ticket, interrupt: Stoppable | None = None, *, takes_next: bool = False) -> Run:
        run = Run(ticket, takes_next and not self._closed, interrupt or Interrupt())
        with self._changed:
            self._runs.add(run)
            if self._thread is None:
                self._thread = start_endless("engine-runs", self._watch)
            if len(self._runs) == 1:
                self._changed.notify_all()
        if self._closed:
            run.stop(StopReason.STOPPING)
        return run

    def end(self, run: Run) -> None:
        with self._changed:
            self._runs.discard(run)
            if not self._runs:
                self._changed.notify_all()

    def close(self, timeout_seconds: float) -> None:
        """Stop all runs; they give their tasks back. Waits until they did, or until the time is up."""
        with self._changed:
            self._closed = True
            runs = list(self._runs)
        for run in runs:
            run.stop(StopReason.STOPPING)
        with self._changed:
            self._changed.wait_for(lambda: not self._runs, timeout_seconds)

    def _watch(self) -> None:
        if not self._runs:
            connection.close()  # nothing to look after: do not keep one from the pool
        with self._changed:
            self._changed.wait_for(lambda: bool(self._runs))
            runs = list(self._runs)
        try:
            self._look_after(runs)
        finally:
            self._stop_the_unrenewed(runs)
        time.sleep(LOOK_SECONDS)

    def _look_after(self, runs: list[Run]) -> None:
        node_health.tell_heard()
        now = time.monotonic()
        for run, held in zip(runs, still_held([run.lease for run in runs]), strict=True):
            if not held:
                run.stop(StopReason.LOST)
        for run in runs:
            if now - run.renewed_at >= settings.HEARTBEAT_SECONDS and (run.renewal is None or run.renewal.done()):
                run.renewal = writer.send(renew, run.lease)
                run.renewal.add_done_callback(partial(run.renewed, now))

    def _stop_the_unrenewed(self, runs: list[Run]) -> None:
        """A run that could not renew its lease stops before somebody else may begin."""
        oldest = time.monotonic() - settings.LEASE_SECONDS * 2 / 3
        for run in runs:
            if run.renewed_at < oldest:
                run.lose_lease()


runs = Runs()
