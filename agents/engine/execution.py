"""Doing the work of a task: from the ticket to the end of the run.

1. Take the task; whoever comes too late returns quietly.
2. Let its kind talk to the model, and write down every piece of the answer.
3. Write the end: the answer, or an error, or that the task starts over. In the same transaction the slot goes to the
   task that waits longest, and this thread with it.
"""

import logging
import time
import uuid
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError

from agents.engine import isolation, kept_answers, node_health, operations, remembered, statements, traces
from agents.engine.answer_stream import AnswerStream, LeaseLost
from agents.engine.chosen_model import ChosenModel
from agents.engine.endings import Endings, kept_of
from agents.engine.grant import Ticket
from agents.engine.owners import this_process
from agents.engine.process import writer
from agents.engine.room import room
from agents.engine.runs import Run, runs
from agents.kinds import KINDS
from agents.kinds.base import Outcome, Work
from agents.models import AgentTask
from agents.ollama.errors import Interrupted, OllamaError
from core import logs
from core.net.interrupts import Interrupt
from core.ops import clock

logger = logging.getLogger(__name__)


def run(task_id: uuid.UUID) -> None:
    """Run a granted task, then whatever waits for the slot it leaves, then what was turned away meanwhile."""
    if not room.enter():
        return
    try:
        ticket = None if runs.is_closed else writer.call(operations.take, operations.Take(task_id, this_process()))
        _run_on(ticket)
    finally:
        while not room.leave():
            _run_on(_oldest())


def _run_on(ticket: Ticket | None) -> None:
    while ticket is not None:
        is_suspect = ticket.interruptions >= operations.SUSPECT_INTERRUPTIONS
        ticket = isolation.run_apart(ticket) if is_suspect else execute(ticket)


def _oldest() -> Ticket | None:
    """Take the task that has been granted longest, if any."""
    try:
        ticket = None if runs.is_closed else writer.call(operations.take_oldest, this_process())
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Cannot look for granted tasks; they will be announced again: %s", error)
        return None
    if ticket is not None:
        room.turned_away()  # and so may others have been
    return ticket


def execute(ticket: Ticket, *, takes_next: bool = True) -> Ticket | None:
    """Run a task in this process; returns the ticket of another one, if this thread takes one and was given one."""
    interrupt = Interrupt()
    current = runs.begin(ticket, interrupt, takes_next=takes_next)
    try:
        with logs.belonging_to(logs.task_id, str(ticket.task_id)):
            attempt = _prepare(current, interrupt)
            if attempt is None:
                return None
            with traces.run(attempt.task):
                return attempt.make()
    except LeaseLost:
        return None
    except (DatabaseError, InterfaceError) as error:
        # Nothing is wrong with the task. Its lease runs out, and it starts over where the database can be reached.
        logger.warning("Task %s is left to the reaper: %s", ticket.task_id, error)
        return None
    finally:
        runs.end(current)


def _prepare(current: Run, interrupt: Interrupt) -> "Attempt | None":
    """Read what the run needs; None when its task was deleted or taken over since."""
    task = statements.running_task(current.ticket.task_id, current.ticket.fence)
    if task is None or task.node_model_id is None:
        return None
    task.version = remembered.version(task.version_id)
    place = task.node_model = remembered.place(task.node_model_id)
    seconds_left = (task.deadline_at - clock.now()).total_seconds()
    model = ChosenModel(place, task.version.options, interrupt, time.monotonic() + seconds_left)
    return Attempt(current, task, model, AnswerStream(current.ticket, is_followed=True))


@dataclass(frozen=True)
class Attempt:
    """One run at work."""

    run: Run
    task: AgentTask
    model: ChosenModel
    stream: AnswerStream

    def make(self) -> Ticket | None:
        """Work to the end; returns the ticket of the next task for this thread, if any."""
        stamp = kept_answers.stamp(self.task)
        try:
            change = self._ending()
        except Interrupted:
            self.run.give_back()
            return None
        traces.ended(change)
        if isinstance(change, operations.SendBack):
            writer.call(operations.send_back, change)
            return None
        if self.task.request_key and change.status == AgentTask.Status.SUCCEEDED:
            kept_answers.keep(self.task, stamp, kept_of(self.model, self.stream, change))
        return writer.call(operations.finish, change).next_ticket

    def _ending(self) -> operations.Finish | operations.SendBack:
        """Let the kind work, and tell how that ended. Raises Interrupted, LeaseLost, database errors."""
        try:
            outcome = self._answer()
        except (Interrupted, LeaseLost, DatabaseError, InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - it is logged where it is named
            if isinstance(error, OllamaError):
                node_health.failed(self.model.place, error)
            return self._endings.after(error)
        if self.model.calls:  # a kind may have answered without it
            node_health.answered(self.model.node)
        return self._endings.success(outcome)

    @property
    def _endings(self) -> Endings:
        """As the process stands now: whether this thread takes another task is decided at the end."""
        takes_next = self.run.takes_next and not room.has_turned_away
        return Endings(self.run.ticket, self.task, self.model, self.stream, this_process() if takes_next else "")

    def _answer(self) -> Outcome:
        """Let the kind work; its pieces go to the stream."""
        pieces = KINDS[self.task.kind].run(Work(task=self.task, version=self.task.version, model=self.model))
        while True:
            try:
                piece = next(pieces)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
            self.stream.add(piece, beside=runs)
