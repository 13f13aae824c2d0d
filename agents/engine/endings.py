"""What a run writes down when it ends: an answer, an error, or that it starts over. For threads and the lane alike."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from agents.engine import counts, operations
from agents.engine.answer_stream import AnswerStream
from agents.engine.chosen_model import ModelAtWork
from agents.engine.grant import Ticket
from agents.engine.kept_answers import Kept
from agents.kinds.base import CannotAnswer, Outcome
from agents.models import AgentTask
from agents.ollama.errors import DeadlineExceeded, OllamaError
from agents.ollama.types import ChatChunk
from core.retries import full_jitter

logger = logging.getLogger(__name__)

Status = AgentTask.Status


@dataclass(frozen=True)
class Endings:
    """The ways in which one run may end. What its stream has still to write goes with them.

    next_for: the runner that would take another task at once.
    """

    ticket: Ticket
    task: AgentTask
    model: ModelAtWork
    stream: AnswerStream
    next_for: str = ""

    def success(self, outcome: Outcome) -> operations.Finish:
        tail = self.stream.finish()
        is_degraded = outcome.is_degraded or self.model.is_builtin
        fields = {
            "result": self.stream.text,
            "output": outcome.output,
            "is_truncated": outcome.is_truncated,
            "is_degraded": is_degraded,
            "prompt_tokens": self.model.prompt_tokens,
            "output_tokens": self.model.output_tokens,
        }
        notes = {**outcome.notes, "truncated": outcome.is_truncated, "degraded": is_degraded}
        return self._finish(Status.SUCCEEDED, notes=notes, tail=tail, fields=fields)

    def failure(self, code: str, detail: str, *, status: "AgentTask.Status" = Status.FAILED) -> operations.Finish:
        if code in counts.TIMEOUT_CODES:
            counts.timeouts.labels(code).inc()
        logger.info("The run of task %s on %s failed: %s: %s", self.task.pk, self.model.node, code, detail)
        return self._failed(code, detail, status)

    def after(
        self, error: Exception, *, can_start_over: bool = True, keeps_reservation: bool = False
    ) -> operations.Finish | operations.SendBack:
        """Try again where that may help, on another node first; else fail with what an operator can act on.

        keeps_reservation: whether this process waits to try again itself.
        """
        if isinstance(error, CannotAnswer):
            return self.failure(error.code, error.detail)
        if isinstance(error, DeadlineExceeded):
            return self.failure(*operations.DEADLINE_PASSED, status=Status.EXPIRED)
        if not isinstance(error, OllamaError):
            logger.error("Task %s failed in its kind %r.", self.task.pk, self.task.kind, exc_info=error)
            return self._failed("internal-error", "The agent failed; the log says why.", Status.FAILED)
        if not can_start_over:
            return self.failure(error.code, error.detail)
        return self._after_ollama(error, keeps_reservation=keeps_reservation)

    def _after_ollama(self, error: OllamaError, *, keeps_reservation: bool) -> operations.Finish | operations.SendBack:
        limit = settings.MAX_ATTEMPTS
        tries = limit if error.max_retries is None else min(limit, error.max_retries + 1)
        failure = self.failure(error.code, error.detail)
        if not error.retryable or self.task.attempts + 1 >= tries:
            return failure
        return operations.SendBack(
            self.ticket.task_id,
            self.ticket.fence,
            reason=f"{error.code}: {error.detail}"[:500],
            counts="attempts",
            delay_seconds=_delay_seconds(self.task.attempts + 1),
            avoids=self.model.node.pk,
            or_end=failure if error.other_node_only else None,
            keeps_reservation=keeps_reservation,
        )

    def _failed(self, code: str, detail: str, status: "AgentTask.Status") -> operations.Finish:
        return self._finish(status, tail=self.stream.finish(), error_code=code, error_detail=detail)

    def _finish(
        self, status: "AgentTask.Status", *, notes: dict[str, Any] | None = None, **end: Any
    ) -> operations.Finish:
        return operations.Finish(
            self.ticket.task_id,
            self.ticket.fence,
            status,
            run={**self.model.notes(), **(notes or {})},
            spoke_at=self.stream.spoke_at,
            next_for=self.next_for,
            **end,
        )


def kept_of(model: ModelAtWork, stream: AnswerStream, end: operations.Finish) -> Kept:
    """What is kept of a run that ended well."""
    last = replace(model.calls[-1], text="", thinking="", tool_calls=(), logprobs=()) if model.calls else ChatChunk()
    fields = end.fields
    return Kept(stream.piece, last, fields["output"] or {}, fields["is_truncated"], model.node.name)


def _delay_seconds(failures: int) -> float:
    return full_jitter(failures, base_seconds=settings.RETRY_BASE_SECONDS, cap_seconds=settings.RETRY_CAP_SECONDS)
