"""How a call is answered once it is a task: whole or piece by piece, from the lane or from what workers write."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Generic, TypeVar

from agents.engine import lane
from agents.engine.admission import Submission, Submitted
from agents.engine.answers import Began, Ended, Item, Reset
from agents.engine.awaited import awaited
from agents.engine.kept_answers import Kept
from agents.engine.lane import Answer
from agents.gateway import failures
from agents.gateway.calls import Call, Headers
from agents.gateway.door import Caller, Order
from agents.gateway.failures import Refusal
from agents.gateway.formats.base import RESTARTED, Encoder, Failure, Identity, Truth
from agents.gateway.formats.vectors import Embedded, VectorEncoder
from agents.models import AgentTask
from agents.ollama.types import ChatChunk, JsonObject
from core.access.watch import watch
from core.ops import clock
from core.ops.news import News

KEEP_ALIVE_SECONDS = 15.0
# Proxies pass pieces on as they come.
STREAM_HEADERS = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
WHOLE_HEADERS = (("Cache-Control", "no-store"),)
SIGNED_OUT = Failure(
    status=401, message="The key or the sign-in ended while the answer was awaited.", code="not-authenticated"
)

Result = TypeVar("Result")

# The loop itself keeps no task alive.
_background: set[asyncio.Task[Any]] = set()


def in_background(work: Coroutine[Any, Any, Any]) -> None:
    """Have something done that nobody waits for."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


class Notice(Enum):
    """What a wait may meet besides the answer."""

    LEFT = "the client has gone"
    VOID = "the client may not have the answer any more"
    SILENCE = "nothing came for a while"


class Wait(Generic[Result]):
    """One client's wait: for what comes of some work, at last its result, and for what else may end it."""

    def __init__(self, call: Call, caller: Caller) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Item | Result | Exception | Notice] = deque()
        self._news = News(self._loop)
        self._leaving = self._loop.create_task(self._tell_of_leaving(call))
        self._holder = caller.holder
        self._losing = watch.begin(self._holder)
        self._losing.add_done_callback(lambda _: self.hear(Notice.VOID))
        self._work: asyncio.Task[Result] | None = None
        self._began_at = time.monotonic()
        self._attention: list[object] = []
        self.began: Began | None = None
        self.queue_wait_seconds: float | None = None

    def attend(self, submission: Submission | None, submitted: Submitted | None) -> None:
        """Have the call's tasks ended once no node is left for them, as long as the client waits."""
        if submission and submitted:
            for one in (submitted, *submitted.parts):
                self._attention.append(awaited.begin(one.task_id, submission.task.model))

    async def _tell_of_leaving(self, call: Call) -> None:
        await call.disconnected()
        self.hear(Notice.LEFT)

    def hear(self, item: Item | Result | Exception | Notice) -> None:
        """Take what comes next; this is also the listener that the lane tells of an answer."""
        self._inbox.append(item)
        self._news.tell()

    def work(self, answering: Coroutine[Any, Any, Result]) -> None:
        """Have the work done, in a task of its own."""
        self._work = self._loop.create_task(answering)
        self._work.add_done_callback(self._worked)

    def _worked(self, work: "asyncio.Task[Result]") -> None:
        if not work.cancelled():
            error = work.exception()
            self.hear(error if isinstance(error, Exception) else work.result())

    async def next(self, *, patience: float | None = None) -> Item | Result | Exception | Notice:
        """Take what comes next; SILENCE where nothing does for so many seconds."""
        if not self._inbox:
            try:
                await self._news.wait(self._loop.time() + patience if patience is not None else None)
            except TimeoutError:
                return Notice.SILENCE
        item = self._inbox.popleft()
        if isinstance(item, Began):
            self.began = item
            self.queue_wait_seconds = time.monotonic() - self._began_at
        return item

    @property
    def has_more(self) -> bool:
        return bool(self._inbox)

    def close(self, *, lets_go_on: bool) -> None:
        """End the wait. lets_go_on: whether the task goes on without anybody waiting; else it is cancelled."""
        for attention in self._attention:
            awaited.end(attention)
        self._news.close()
        self._leaving.cancel()
        watch.end(self._holder, self._losing)
        if self._work is not None and lets_go_on and not self._work.done():
            _background.add(self._work)
            self._work.add_done_callback(_background.discard)
        elif self._work is not None:
            self._work.cancel()


async def text(call: Call, order: Order, encoder_for: Callable[[Identity, JsonObject], Encoder]) -> None:
    """Answer a call whose answer is text. Raises Refusal, and what submitting raises, before anything was sent."""
    to_make = order.to_make
    submitted = await _submitted(to_make)
    encoder = encoder_for(order.identity(submitted), order.wanted.shape)
    wait: Wait[Answer] = Wait(call, order.caller)
    try:
        wait.attend(to_make, submitted)
        wait.work(_answering(order, submitted, wait))
        if order.wanted.streams:
            await stream(call, order.caller, encoder, wait)
        elif (answer := await whole(wait)) is not None:
            body = encoder.whole([answer.whole, answer.ended.last], truth_of(answer.ended))
            await call.answer(200, body, [*order.caller.headers, *WHOLE_HEADERS, *told_at_end(answer.ended)])
    finally:
        wait.close(lets_go_on=order.goes_on_alone)


async def vectors(call: Call, order: Order, encoder_for: Callable[[Identity, JsonObject], VectorEncoder]) -> None:
    """Answer a call whose answer is vectors. Raises as `text`."""
    to_make = order.to_make
    submitted = await _submitted(to_make)
    encoder = encoder_for(order.identity(submitted), order.wanted.shape)
    wait: Wait[list[Answer]] = Wait(call, order.caller)
    try:
        wait.attend(to_make, submitted)
        wait.work(_answering_in_parts(order, submitted))
        if (answers := await whole(wait)) is not None:
            parts = [answer.ended for answer in answers]
            ended = _joined(parts)
            truth = replace(truth_of(ended), tasks=tuple(part.task_id for part in parts))
            body = encoder.whole(Embedded.joined([_embedded(part) for part in parts]), truth)
            await call.answer(200, body, [*order.caller.headers, *WHOLE_HEADERS, *told_at_end(ended)])
    finally:
        wait.close(lets_go_on=order.goes_on_alone)


async def _submitted(to_make: Submission | None) -> Submitted | None:
    """Have tasks written down; None where equal ones' answers were kept, which are written with them."""
    return await lane.submit(to_make) if to_make else None


def _embedded(ended: Ended) -> Embedded:
    last = ended.last
    return Embedded.from_output(
        ended.output,
        prompt_tokens=last.prompt_tokens,
        total_seconds=last.total_seconds,
        load_seconds=last.load_seconds,
    )


def _joined(parts: Sequence[Ended]) -> Ended:
    """What there is to say of a call whose parts ended so: what holds for one of them holds for all."""
    caches = {part.cache for part in parts}
    return replace(
        parts[0],
        node=", ".join(dict.fromkeys(part.node for part in parts)),
        cache=parts[0].cache if len(caches) == 1 else "",
        queue_wait_seconds=max(part.queue_wait_seconds for part in parts),
        is_truncated=any(part.is_truncated for part in parts),
        is_degraded=any(part.is_degraded for part in parts),
    )


async def _answering_in_parts(order: Order, submitted: Submitted | None) -> list[Answer]:
    """Have all parts of a call answered at once. One that fails, or a client that leaves, ends the others."""
    to_make = order.to_make
    made = [lane.answer(*part) for part in await lane.parts(to_make, submitted)] if to_make and submitted else []
    if order.kept:
        making = iter(made)
        made = [_recalled(order, task) if task.pk in order.kept else next(making) for task in order.tasks]
    working = [asyncio.create_task(_checked(answering)) for answering in made]
    try:
        return await asyncio.gather(*working)
    finally:
        for work in working:
            work.cancel()


def _recalled(order: Order, task: AgentTask) -> Coroutine[Any, Any, Answer]:
    """Give what answered an equal task before."""
    return lane.recall(replace(order.submission, task=task, parts=()), order.kept[task.pk])


async def _checked(answering: Awaitable[Answer]) -> Answer:
    """Raises Refusal for what is no answer, and what answering raises."""
    answer = await answering
    if not answer.ended.has_answer:
        raise _error_of(answer)
    return answer


async def _answering(order: Order, submitted: Submitted | None, wait: Wait[Answer]) -> Answer:
    if submitted is None:
        return await _again(order, order.kept[order.submission.task.pk], wait)
    if order.wanted.streams:
        return await lane.answer(order.submission, submitted, wait.hear)
    return await _checked(lane.answer(order.submission, submitted))


async def _again(order: Order, kept: Kept, wait: Wait[Answer]) -> Answer:
    """Give an answer once more that was given before."""
    answer = await lane.recall(order.submission, kept)
    if order.wanted.streams:
        wait.hear(Began(answer.ended.task_id, kept.node, kept.is_truncated))
        wait.hear(answer.whole)
    return answer


async def whole(wait: Wait[Result]) -> Result | None:
    """Wait for what some work gives whole; None when the client has gone. Raises Refusal, and what the work raised."""
    while True:
        match await wait.next():
            case Exception() as error:
                raise error
            case Notice.LEFT:
                return None
            case Notice.VOID:
                raise Refusal(SIGNED_OUT)
            case Began() | ChatChunk() | Reset() | Notice.SILENCE:
                pass  # of no interest to who waits for the whole
            case result:
                return result


async def stream(
    call: Call, caller: Caller, encoder: Encoder, wait: Wait[Answer], *, written: bytes | None = None
) -> None:
    """Send an answer as it comes. Until there is something of it, a failure still has a status of its own.

    written: what the client gets first, where a part of the answer was written before it came.
    """
    has_begun = False
    opening = encoder.start() if written is None else b""
    out = written or b""
    while True:
        if (out or encoder.is_over) and not has_begun:  # whoever has heard all gets the end alone
            has_begun = True
            await call.begin(200, encoder.stream_type, [*caller.headers, *STREAM_HEADERS, *told(encoder, wait)])
            out = opening + out
        if out or encoder.is_over:
            await call.write(out, has_more=not encoder.is_over)
        if encoder.is_over:
            return
        item = await wait.next(patience=KEEP_ALIVE_SECONDS if has_begun and encoder.keep_alive else None)
        if item is Notice.LEFT:
            return
        out = _words(item, encoder, has_begun=has_begun)
        while wait.has_more and not encoder.is_over and isinstance(item, ChatChunk):
            item = await wait.next()
            if item is Notice.LEFT:
                return
            out += _words(item, encoder, has_begun=True)


def _words(item: Item | Answer | Exception | Notice, encoder: Encoder, *, has_begun: bool) -> bytes:
    """What is sent because of an item."""
    match item:
        case ChatChunk():
            return encoder.piece(item)
        case Reset():
            if encoder.has_begun:
                failures.note(RESTARTED)
            return encoder.restart()
        case Answer() if item.ended.has_answer:
            return encoder.end(item.ended.last, truth_of(item.ended))
        case Notice.SILENCE:
            return encoder.keep_alive
        case Began() | Notice.LEFT:
            return b""
    error = _error_of(item)
    if not has_begun:
        raise error
    failure = error.failure if isinstance(error, Refusal) else failures.of_error(error)[0]
    failures.note(failure)
    return encoder.failure(failure)


def _error_of(item: Answer | Exception | Notice) -> Exception:
    if isinstance(item, Answer):
        return failures.refusal(failures.of_task(item.ended), told_at_end(item.ended))
    return item if isinstance(item, Exception) else Refusal(SIGNED_OUT)


def truth_of(ended: Ended) -> Truth:
    return Truth(
        task_id=ended.task_id,
        node=ended.node,
        cache=ended.cache,
        is_truncated=ended.is_truncated,
        is_degraded=ended.is_degraded,
        queue_wait_seconds=ended.queue_wait_seconds,
        finished_at=ended.finished_at or clock.now(),
    )


def told(encoder: Encoder, wait: Wait[Any]) -> Headers:
    """What headers tell of an answer that comes piece by piece: all that is known when they are sent."""
    began = wait.began
    if began is None:
        return _told(encoder.identity.task_id)
    return _told(began.task_id, began.node, is_truncated=began.is_truncated, waited=wait.queue_wait_seconds)


def told_at_end(ended: Ended) -> Headers:
    """What headers tell of an answer, or of its failure, once it is known."""
    waited = ended.queue_wait_seconds
    return _told(ended.task_id, ended.node, cache=ended.cache, is_truncated=ended.is_truncated, waited=waited)


def _told(
    task_id: uuid.UUID, node: str = "", *, cache: str = "", is_truncated: bool = False, waited: float | None = None
) -> Headers:
    known = {
        "X-SutazAI-Task": str(task_id),
        "X-SutazAI-Node": node,
        "X-SutazAI-Cache": cache,
        "X-SutazAI-Truncated": "true" if is_truncated else "",
        "X-SutazAI-Queue-Wait": f"{waited:.3f}" if waited is not None else "",
    }
    return [(name, value) for name, value in known.items() if value]
