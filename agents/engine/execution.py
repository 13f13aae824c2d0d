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

from django.conf import settings

from agents import kinds
from agents.engine import clock, isolation, node_health, operations
from agents.engine.chosen_model import ChosenModel
from agents.engine.grant import Ticket
from agents.engine.owners import this_process
from agents.engine.process import writer
from agents.engine.runs import Run, runs
from agents.engine.text_stream import LeaseLost, TextStream
from agents.kinds.base import CannotAnswer, Outcome, Work
from agents.models import AgentTask
from agents.ollama.errors import DeadlineExceeded, Interrupted, OllamaError

logger = logging.getLogger(__name__)

Status = AgentTask.Status

# A task under which two runners died may be what killed them.
SUSPECT_INTERRUPTIONS = 2


def run(task_id: uuid.UUID) -> None:
    """Run a granted task, then whatever waits for the slot it leaves."""
    ticket = None if runs.is_closed else writer.call(operations.take, operations.Take(task_id, this_process()))
    while ticket is not None:
        is_suspect = ticket.interruptions >= SUSPECT_INTERRUPTIONS
        ticket = isolation.run_apart(ticket) if is_suspect else execute(ticket)


def execute(ticket: Ticket, *, takes_next: bool = True) -> Ticket | None:
    """Run a task in this process; returns the ticket of another one, if this thread takes one and was given one."""
    current = runs.begin(ticket, takes_next=takes_next)
    try:
        return _execute(current)
    except LeaseLost:
        return None
    finally:
        runs.end(current)


def _execute(current: Run) -> Ticket | None:
    task = _load(current.ticket)
    if task is None:  # deleted, or taken over since
        return None
    seconds_left = (task.deadline_at - clock.now()).total_seconds()
    model = ChosenModel(task.node_model, task.version.options, current.interrupt, time.monotonic() + seconds_left)
    stream = TextStream(current.ticket)
    try:
        outcome = _answer(task, model, stream)
    except CannotAnswer as refusal:
        return _fail(current, task, model, stream, refusal.code, refusal.detail)
    except Interrupted:
        current.give_back()
        return None
    except DeadlineExceeded as error:
        return _fail(current, task, model, stream, "deadline-passed", error.detail, status=Status.EXPIRED)
    except OllamaError as error:
        return _after_error(current, task, model, stream, error)
    except LeaseLost:
        raise
    except Exception:
        logger.exception("Task %s failed in its kind %r.", task.pk, task.kind)
        return _fail(current, task, model, stream, "internal-error", "The agent failed; the log says why.")
    node_health.answered(task.node)
    return _succeed(current, task, model, stream, outcome)


def _load(ticket: Ticket) -> AgentTask | None:
    rows = AgentTask.objects.running().select_related("version", "node_model__node", "node")
    return rows.filter(pk=ticket.task_id, fence=ticket.fence).first()


def _answer(task: AgentTask, model: ChosenModel, stream: TextStream) -> Outcome:
    """Let the kind work; its pieces go to the stream."""
    pieces = kinds.KINDS[task.kind].run(Work(task=task, version=task.version, model=model))
    while True:
        try:
            piece = next(pieces)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        stream.add(piece, live_streams=len(runs))


def _succeed(current: Run, task: AgentTask, model: ChosenModel, stream: TextStream, outcome: Outcome) -> Ticket | None:
    tail = stream.pull()
    is_degraded = outcome.is_degraded or model.is_builtin
    notes = {**model.notes(), **outcome.notes, "truncated": outcome.is_truncated, "degraded": is_degraded}
    return _finish(
        current,
        Status.SUCCEEDED,
        tail=tail,
        run=notes,
        fields={
            "result": stream.text,
            "output": outcome.output,
            "is_truncated": outcome.is_truncated,
            "is_degraded": is_degraded,
            "prompt_tokens": model.prompt_tokens,
            "output_tokens": model.output_tokens,
        },
    )


def _fail(
    current: Run,
    task: AgentTask,
    model: ChosenModel,
    stream: TextStream,
    code: str,
    detail: str,
    *,
    status: "AgentTask.Status" = Status.FAILED,
) -> Ticket | None:
    logger.warning("Task %s on %s: %s: %s", task.pk, task.node, code, detail)
    return _finish(
        current, status, tail=stream.pull(), run=model.notes(), error_code=code, error_detail=detail, fields={}
    )


def _finish(
    current: Run,
    status: "AgentTask.Status",
    *,
    tail: str,
    run: dict[str, object],
    fields: dict[str, object],
    error_code: str = "",
    error_detail: str = "",
) -> Ticket | None:
    ticket = current.ticket
    finished = writer.call(
        operations.finish,
        operations.Finish(
            ticket.task_id,
            ticket.fence,
            status,
            tail=tail,
            run=run,
            fields=fields,
            error_code=error_code,
            error_detail=error_detail,
            next_for=this_process() if current.takes_next else "",
        ),
    )
    return finished.next_ticket


def _after_error(
    current: Run, task: AgentTask, model: ChosenModel, stream: TextStream, error: OllamaError
) -> Ticket | None:
    """Try again later where that may help, else fail with what an operator can act on."""
    node_health.failed(task.node, error)
    tries = settings.MAX_ATTEMPTS if error.max_retries is None else min(settings.MAX_ATTEMPTS, error.max_retries + 1)
    if not error.retryable or task.attempts + 1 >= tries:
        return _fail(current, task, model, stream, error.code, error.detail)
    delay = _retry_delay(task.attempts)
    logger.info("Task %s tries again in %.1f s: %s", task.pk, delay, error.detail)
    ticket = current.ticket
    reason = f"{error.code}: {error.detail}"
    change = operations.SendBack(ticket.task_id, ticket.fence, reason[:500], counts="attempts", delay_seconds=delay)
    writer.call(operations.send_back, change)
    return None


def _retry_delay(attempts: int) -> float:
    """Full jitter, in seconds: tasks that failed together do not come back together."""
    ceiling = min(settings.RETRY_CAP_SECONDS, settings.RETRY_BASE_SECONDS * 2**attempts)
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
