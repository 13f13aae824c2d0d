"""Doing the work of a task: from the ticket to the end of the run.

1. Take the task; whoever comes too late returns quietly.
2. Let its kind talk to the model, and write down every piece of the answer.
3. Write the end: the answer, or an error, or that the task starts over. In the same transaction the slot goes to the
   task that waits longest, and this thread with it.
"""

import logging
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from agents.engine import isolation, node_health, operations, remembered, statements
from agents.engine.answer_stream import AnswerStream, LeaseLost
from agents.engine.chosen_model import ChosenModel
from agents.engine.grant import Ticket
from agents.engine.owners import this_process
from agents.engine.process import writer
from agents.engine.room import room
from agents.engine.runs import Run, runs
from agents.kinds import KINDS
from agents.kinds.base import CannotAnswer, Outcome, Work
from agents.models import AgentTask
from agents.ollama.errors import DeadlineExceeded, Interrupted, OllamaError
from agents.ollama.types import JsonObject
from core import logs
from core.ops import clock

logger = logging.getLogger(__name__)

Status = AgentTask.Status


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
    current = runs.begin(ticket, takes_next=takes_next)
    try:
        with logs.belonging_to(logs.task_id, str(ticket.task_id)):
            attempt = _prepare(current)
            return attempt.make() if attempt else None
    except LeaseLost:
        return None
    except (DatabaseError, InterfaceError) as error:
        # Nothing is wrong with the task. Its lease runs out, and it starts over where the database can be reached.
        logger.warning("Task %s is left to the reaper: %s", ticket.task_id, error)
        return None
    finally:
        runs.end(current)


def _prepare(current: Run) -> "Attempt | None":
    """Read what the run needs; None when its task was deleted or taken over since."""
    task = statements.running_task(current.ticket.task_id, current.ticket.fence)
    if task is None or task.node_model_id is None:
        return None
    task.version = remembered.version(task.version_id)
    place = remembered.place(task.node_model_id)
    seconds_left = (task.deadline_at - clock.now()).total_seconds()
    model = ChosenModel(place, task.version.options, current.interrupt, time.monotonic() + seconds_left)
    return Attempt(current, task, model, AnswerStream(current.ticket))


@dataclass(frozen=True)
class Attempt:
    """One run at work. Its methods that end the run return the ticket of the next task for this thread, if any."""

    run: Run
    task: AgentTask
    model: ChosenModel
    stream: AnswerStream

    def make(self) -> Ticket | None:
        try:
            outcome = self._answer()
        except CannotAnswer as refusal:
            return self._fail(refusal.code, refusal.detail)
        except Interrupted:
            self.run.give_back()
            return None
        except DeadlineExceeded:
            return self._fail(*operations.DEADLINE_PASSED, status=Status.EXPIRED)
        except OllamaError as error:
            return self._after_error(error)
        except (LeaseLost, DatabaseError, InterfaceError):
            raise
        except Exception:
            logger.exception("Task %s failed in its kind %r.", self.task.pk, self.task.kind)
            return self._fail("internal-error", "The agent failed; the log says why.")
        if self.model.calls:  # a kind may have answered without it
            node_health.answered(self.model.node)
        return self._succeed(outcome)

    def _answer(self) -> Outcome:
        """Let the kind work; its pieces go to the stream."""
        pieces = KINDS[self.task.kind].run(Work(task=self.task, version=self.task.version, model=self.model))
        while True:
            try:
                piece = next(pieces)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
            self.stream.add(piece, live_streams=len(runs))

    def _succeed(self, outcome: Outcome) -> Ticket | None:
        tail = self.stream.finish()
        is_degraded = outcome.is_degraded or self.model.is_builtin
        notes = {**outcome.notes, "truncated": outcome.is_truncated, "degraded": is_degraded}
        fields = {
            "result": self.stream.text,
            "output": outcome.output,
            "is_truncated": outcome.is_truncated,
            "is_degraded": is_degraded,
            "prompt_tokens": self.model.prompt_tokens,
            "output_tokens": self.model.output_tokens,
        }
        return self._finish(Status.SUCCEEDED, tail=tail, notes=notes, fields=fields)

    def _fail(self, code: str, detail: str, *, status: "AgentTask.Status" = Status.FAILED) -> Ticket | None:
        logger.warning("Task %s on %s: %s: %s", self.task.pk, self.model.node, code, detail)
        return self._finish(status, tail=self.stream.finish(), error_code=code, error_detail=detail)

    def _finish(
        self, status: "AgentTask.Status", *, tail: JsonObject, notes: dict[str, Any] | None = None, **end: Any
    ) -> Ticket | None:
        finish = operations.Finish(
            self.run.ticket.task_id,
            self.run.ticket.fence,
            status,
            tail=tail,
            run={**self.model.notes(), **(notes or {})},
            next_for=this_process() if self.run.takes_next and not room.has_turned_away else "",
            **end,
        )
        return writer.call(operations.finish, finish).next_ticket

    def _after_error(self, error: OllamaError) -> Ticket | None:
        """Try again later where that may help, else fail with what an operator can act on."""
        node_health.failed(self.model.place, error)
        limit = settings.MAX_ATTEMPTS
        tries = limit if error.max_retries is None else min(limit, error.max_retries + 1)
        if not error.retryable or self.task.attempts + 1 >= tries:
            return self._fail(error.code, error.detail)
        delay = _retry_delay(self.task.attempts)
        logger.info("Task %s tries again in %.1f s: %s", self.task.pk, delay, error.detail)
        change = operations.SendBack(
            self.run.ticket.task_id,
            self.run.ticket.fence,
            reason=f"{error.code}: {error.detail}"[:500],
            counts="attempts",
            delay_seconds=delay,
        )
        writer.call(operations.send_back, change)
        return None


def _retry_delay(attempts: int) -> float:
    """Full jitter, in seconds: tasks that failed together do not come back together."""
    ceiling = min(settings.RETRY_CAP_SECONDS, settings.RETRY_BASE_SECONDS * 2**attempts)
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
