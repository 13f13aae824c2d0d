"""The quick lane: tasks that the serving process runs itself, on its event loop, because their client waits.

The rules are those of runs in threads (`execution`): the task is written, and leased to this process, before the model
is called; every write names the fence; the end is written before the client hears of it. When this process dies, the
reaper hands the task to a worker.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, cast

from django.db import DatabaseError, InterfaceError

from agents.engine import admission, answers, kept_answers, node_health, operations, remembered, statements, traces
from agents.engine.answer_stream import AnswerStream, LeaseLost
from agents.engine.answers import Began, Ended, Item, Reset
from agents.engine.chosen_model import ModelAtWork, async_client_for
from agents.engine.endings import Endings, kept_of
from agents.engine.follow import reader
from agents.engine.grant import Ticket
from agents.engine.kept_answers import Kept
from agents.engine.owners import this_process
from agents.engine.pieces import chunk_of
from agents.engine.process import writer
from agents.engine.runs import Run, StopReason, runs
from agents.engine.submit import PATIENCE_SECONDS
from agents.kinds.base import Model, Outcome, Work
from agents.kinds.model_call import Call
from agents.models import AgentTask, NodeModel
from agents.ollama.errors import Interrupted, OllamaError
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest
from core import logs
from core.cache import Stamp
from core.ops import clock
from core.ops.threads import in_thread, outcome

logger = logging.getLogger(__name__)

Status = AgentTask.Status
Listener = Callable[[Item], None]  # tells of an answer as it comes


@dataclass(frozen=True)
class Answer:
    """How a task ended, and, where nobody listened, all that its last run wrote."""

    ended: Ended
    whole: ChatChunk


async def submit(submission: admission.Submission) -> admission.Submitted:
    """Write a task down. Raises what `engine.submit` raises."""
    pending = writer.send(admission.submit, submission, limit_seconds=PATIENCE_SECONDS)
    try:
        return await outcome(pending)
    except asyncio.CancelledError:
        pending.cancel()
        pending.add_done_callback(_cancel_what_was_written)
        raise


async def answer(
    submission: admission.Submission, submitted: admission.Submitted, listener: Listener | None = None
) -> Answer:
    """Run a task that was written down, if it is reserved for this process; tell a listener how its answer comes.

    Cancelling this coroutine cancels the task. Without a listener the task may start over until the end.
    Raises answers.Gone.
    """
    if submitted.shares:
        return await _share(submission, submitted.task_id, listener)
    if submitted.is_replay:
        return await listen(submitted.task_id, listener)
    heard = _Heard(listener)
    task = submitted.granted
    try:
        while submission.task.reserved_for and (task := task or await _granted(submitted.task_id)):
            if answer := await _Attempt(task, submission.task.version.options, heard).make():
                return answer
            task = None
        if heard.has_pieces:
            heard(Reset())
        return await listen(submitted.task_id, listener)
    except asyncio.CancelledError:
        writer.send(operations.cancel, submitted.task_id)
        raise


async def _share(submission: admission.Submission, leader: uuid.UUID, listener: Listener | None) -> Answer:
    """Take part in the answer to an equal call, under a task of one's own once there is one."""

    def tell(item: Item) -> None:
        if listener is not None:
            listener(replace(item, task_id=submission.task.pk) if isinstance(item, Began) else item)

    answer = await listen(leader, tell if listener else None)
    if not answer.ended.has_answer:
        return answer
    ended = answer.ended
    piece = await in_thread(answers.whole_piece, leader)
    kept = Kept(piece, ended.last, ended.output, ended.is_truncated, ended.node)
    return await recall(submission, kept, how="shared")


async def recall(submission: admission.Submission, kept: Kept, *, how: str = "hit") -> Answer:
    """Answer a call with what was kept of an equal one."""
    fields = {
        "result": kept.whole.text,
        "output": kept.output,
        "is_truncated": kept.is_truncated,
        "prompt_tokens": kept.last.prompt_tokens,
        "output_tokens": kept.last.output_tokens,
    }
    notes = {"node": kept.node, "done_reason": kept.last.done_reason}
    task = await _write(admission.recall, admission.Recall(submission.task, kept.piece, fields, notes, how))
    return Answer(replace(answers.of_task(task), last=kept.last), kept.whole)


def _cancel_what_was_written(pending: "Future[admission.Submitted]") -> None:
    if not pending.cancelled() and pending.exception() is None:
        submitted = pending.result()
        if not submitted.is_replay and not submitted.shares:
            for one in (submitted, *submitted.parts):
                writer.send(operations.cancel, one.task_id)


async def parts(
    submission: admission.Submission, submitted: admission.Submitted
) -> list[tuple[admission.Submission, admission.Submitted]]:
    """Tell what `answer` needs for each task of a call, in their order."""
    if submitted.is_replay:
        earlier = await in_thread(answers.part_ids, submitted.task_id)
        others = [(submission, admission.Submitted(task_id, is_replay=True)) for task_id in earlier]
    else:
        paired = zip(submission.parts, submitted.parts, strict=True)
        others = [(replace(submission, task=task, parts=()), part) for task, part in paired]
    return [(submission, submitted), *others]


async def listen(task_id: uuid.UUID, listener: Listener | None, *, after: int = 0, skips_void: bool = True) -> Answer:
    """Follow a task that another run answers, or answered, as `answers.follow` does. Raises answers.Gone."""
    async for item in answers.follow(task_id, after=after, skips_void=skips_void):
        if isinstance(item, Ended):
            return Answer(item, ChatChunk() if listener else await in_thread(answers.whole, task_id))
        if listener is not None:
            listener(item)
    raise answers.Gone


async def _granted(task_id: uuid.UUID) -> AgentTask | None:
    """Wait until a waiting task is this process's to run; None when it ended before."""
    async for events in reader.follow(task_id):
        data = json.loads(events[-1].data)
        if data.get("status") == Status.RUNNING and (task := await in_thread(_ours, task_id, data["run"])):
            return task
    return None


def _ours(task_id: uuid.UUID, fence: int) -> AgentTask | None:
    task = statements.running_task(task_id, fence)
    if task is None or task.node_model_id is None or task.runner != this_process():
        return None
    task.version = remembered.version(task.version_id)
    task.node_model = remembered.place(task.node_model_id)
    return task


class _Heard:
    """A listener, if there is one, and whether it was given pieces that cannot be taken back."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self.listens = listener is not None
        self.has_pieces = False

    def __call__(self, item: Item) -> None:
        if self._listener is not None:
            self.has_pieces = self.has_pieces or isinstance(item, ChatChunk)
            self._listener(item)


class _Interrupt:
    """Ends the work of one asyncio task, once, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Task[Any] | None = None
        self.is_set = False

    def shutdown(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self.is_set:
            self.is_set = True
            if self._work is not None:
                self._work.cancel()

    def __enter__(self) -> None:
        """Begin what may be ended. Raises Interrupted."""
        if self.is_set:
            raise Interrupted("interrupted")
        self._work = asyncio.current_task()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        work, self._work = self._work, None
        if kind is asyncio.CancelledError and self.is_set and work is not None and work.uncancel() == 0:
            raise Interrupted("interrupted")


class _Attempt:
    """One run of a task in the lane."""

    def __init__(self, task: AgentTask, options: dict[str, Any], listener: _Heard) -> None:
        self._task = task
        self._listener = listener
        self._ticket = Ticket(task.pk, task.fence, task.interruptions)
        self._place = cast("NodeModel", task.node_model)
        self._model = ModelAtWork(self._place, options)
        self._stream = AnswerStream(self._ticket, is_followed=False)
        self._interrupt = _Interrupt()
        self._stamp: Stamp | None = None

    async def make(self) -> Answer | None:
        """Work to the end; None when the task goes on without this run."""
        current = runs.begin(self._ticket, self._interrupt)
        try:
            with logs.belonging_to(logs.task_id, str(self._ticket.task_id)), traces.run(self._task):
                change = await self._ending()
                traces.ended(change)
                return await self._written(change)
        except Interrupted:
            await self._give_back(current)
        except LeaseLost:
            pass
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Task %s is left to the reaper: %s", self._task.pk, error)
        finally:
            runs.end(current)
        return None

    async def _ending(self) -> operations.Finish | operations.SendBack:
        """Ask the model, and tell how that ended. Raises Interrupted, LeaseLost."""
        endings = Endings(self._ticket, self._task, self._model, self._stream)
        try:
            outcome = await self._answer()
            await self._stream.settle()
        except (Interrupted, LeaseLost, DatabaseError, InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - it is logged where it is named
            if isinstance(error, OllamaError):
                await in_thread(node_health.failed, self._place, error)
            await self._stream.settle()
            # What the client has heard cannot be taken back.
            return endings.after(error, can_start_over=not self._listener.has_pieces, keeps_reservation=True)
        node_health.note_answer(self._model.node)
        return endings.success(outcome)

    async def _answer(self) -> Outcome:
        seconds_left = (self._task.deadline_at - clock.now()).total_seconds()
        deadline = time.monotonic() + seconds_left
        if self._task.request_key:
            self._stamp = await in_thread(kept_answers.stamp, self._task)
        client = async_client_for(self._model.node)
        call = Call.of(Work(self._task, self._task.version, cast("Model", self._model)))
        self._listener(Began(self._ticket.task_id, self._model.node.name, call.is_truncated))
        with self._interrupt:
            if isinstance(call.request, EmbedRequest):
                asked = self._model.pinned(call.request)
                return call.embedded(self._model.noted(await client.embed(asked, deadline=deadline)))
            request = self._model.pinned(call.request)
            if isinstance(request, ChatRequest):
                chunks = client.chat(request, deadline=deadline)
            else:
                chunks = client.generate(request, deadline=deadline)
            ear = node_health.ear_for(self._model.node)
            async for chunk in chunks:
                ear.heard()
                call.took(chunk)
                self._stream.add(chunk, beside=runs)
                if chunk.done:
                    self._model.calls.append(chunk)
                if self._listener.listens and chunk.has_output:
                    self._listener(chunk)
            return call.outcome()

    async def _written(self, change: operations.Finish | operations.SendBack) -> Answer | None:
        """Write the end down. Raises LeaseLost."""
        if isinstance(change, operations.SendBack):
            await _write(operations.send_back, change)
            return None
        if self._task.request_key and change.status == Status.SUCCEEDED:
            kept = kept_of(self._model, self._stream, change)
            await in_thread(kept_answers.keep, self._task, self._stamp, kept)
        if not (await _write(operations.finish, change)).is_owner:
            raise LeaseLost
        return Answer(self._ended(change), chunk_of(self._stream.piece))

    def _ended(self, change: operations.Finish) -> Ended:
        fields, calls = change.fields, self._model.calls
        return Ended(
            task_id=self._ticket.task_id,
            status=change.status,
            model=self._task.model,
            output=fields.get("output") or {},
            last=_bare(calls[-1]) if calls else ChatChunk(model=self._task.model, done=True),
            node=self._model.node.name,
            queue_wait_seconds=answers.queue_wait(self._task),
            is_truncated=fields.get("is_truncated", False),
            is_degraded=fields.get("is_degraded", False),
            error_code=change.error_code,
            error_detail=change.error_detail,
        )

    async def _give_back(self, current: Run) -> None:
        """Return the task after a graceful stop; a lost one is not ours to return."""
        if current.stop_reason is StopReason.STOPPING:
            change = operations.SendBack(self._ticket.task_id, self._ticket.fence, "The server was stopped.")
            await _write(operations.send_back, change)


def _bare(chunk: ChatChunk) -> ChatChunk:
    """A last chunk without what the model made, which went before it."""
    if not chunk.has_output and not chunk.logprobs:
        return chunk
    return replace(chunk, text="", thinking="", tool_calls=(), logprobs=())


async def _write(operation: Any, change: Any) -> Any:
    """Have one change written, even if nobody waits for that any more."""
    return await outcome(writer.send(operation, change))
