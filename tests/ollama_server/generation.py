"""What chat, generate and their OpenAI forms share: the job, its answer, its faults and its pace."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.ollama_server import answers, knobs, parsing
from tests.ollama_server.http import Reply
from tests.ollama_server.knobs import Knobs
from tests.ollama_server.models import CONTEXT_LENGTH, Model
from tests.ollama_server.parsing import Refusal
from tests.ollama_server.scheduler import QueueFullError, Scheduler, Turn
from tests.ollama_server.stats import Stats

RUNNER_CRASHED = "llama runner process has terminated: exit status 2"
QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"
STATUS_TEXTS = {
    404: "model 'absent' not found",
    429: "too many requests",
    500: RUNNER_CRASHED,
    503: QUEUE_FULL,
}
PAUSE_BETWEEN_SPLITS_SECONDS = 0.0005


@dataclass(slots=True)
class Job:
    """One request for text, whatever format it came in."""

    model: Model
    name: str  # as the caller spelled it
    messages: list[dict[str, Any]]
    options: parsing.Options
    keep_alive: float | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    format: str | dict[str, Any] | None = None
    think: bool = False
    truncate: bool = True
    knobs: Knobs = knobs.NONE

    @property
    def prompt(self) -> str:
        return str(self.messages[-1].get("content") or "") if self.messages else ""


@dataclass(slots=True)
class Answer:
    """What will be said: tokens in order, the first `thinking` of them as thoughts."""

    tokens: list[str]
    thinking: int
    tool_call: dict[str, Any] | None
    done_reason: str
    prompt_tokens: int
    load_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    first_token: float = 0.0
    reported_tokens: int | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens[self.thinking :])

    @property
    def thoughts(self) -> str:
        return "".join(self.tokens[: self.thinking])

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) if self.reported_tokens is None else self.reported_tokens

    def usage(self) -> dict[str, int]:
        """Counts and nanoseconds, without the zeros."""
        now = time.monotonic()
        seconds = {
            "total_duration": now - self.started,
            "load_duration": self.load_seconds,
            "prompt_eval_duration": self.first_token - self.started - self.load_seconds,
            "eval_duration": now - self.first_token,
        }
        counts = {"prompt_eval_count": self.prompt_tokens, "eval_count": self.output_tokens}
        figures = counts | {name: int(value * 1e9) for name, value in seconds.items()}
        return {name: value for name, value in figures.items() if value > 0}


def compose(job: Job) -> Answer:
    """Decide what the model says."""
    prompt_tokens = _fit(job)
    tool_call = None
    if job.tools and job.messages and job.messages[-1].get("role") != "tool":
        tool_call = answers.tool_call(job.tools, job.prompt)
        tokens = []
    elif job.format is not None:
        tokens = answers.formatted(job.prompt, job.format)
    else:
        tokens = answers.echo(job.prompt, tokens=job.knobs.t)
    thoughts = [f" thought{number}" for number in range(job.knobs.think or 3)] if job.think else []
    tokens = thoughts + tokens
    limit = job.options.num_predict
    is_cut = 0 <= limit < len(tokens)
    if is_cut:
        tokens = tokens[:limit]
    answer = Answer(tokens, min(len(thoughts), len(tokens)), tool_call, "length" if is_cut else "stop", prompt_tokens)
    answer.reported_tokens = job.knobs.counts
    return answer


def _fit(job: Job) -> int:
    """Count the prompt's tokens after what Ollama silently drops: the oldest messages, then half the window."""
    sizes = [
        (message.get("role"), answers.count_tokens(str(message.get("content") or ""))) for message in job.messages
    ]
    total = sum(size for _, size in sizes)
    if total <= job.options.num_ctx:
        return max(total, 1)
    if not job.truncate:
        raise Refusal(400, "the input length exceeds the context length")
    for role, size in sizes[:-1]:
        if role != "system":
            total -= size
        if total <= job.options.num_ctx:
            return max(total, 1)
    return job.options.num_ctx // 2


# Turns tokens [start, stop) of an answer into bytes for the wire.
Render = Callable[[Answer, int, int], bytes]


@dataclass(slots=True)
class Format:
    """How an answer is written in one of the wire formats."""

    content_type: str
    render: Render
    last: Callable[[Answer], list[bytes]]
    error_line: Callable[[str], bytes]
    whole: Callable[[Answer, bool], Any]  # non-streaming; the flag is `done`


class Generator:
    """Runs jobs: waits for a slot, keeps the pace, commits the faults."""

    def __init__(self, scheduler: Scheduler, stats: Stats) -> None:
        self._scheduler = scheduler
        self._stats = stats
        self._may_go_on = asyncio.Event()

    def release(self) -> None:
        """Let the answers that are held go on, and all that come after them."""
        self._may_go_on.set()

    def hold_again(self) -> None:
        """Let the answers that are held go on, but none that come after them."""
        self._may_go_on.set()
        self._may_go_on = asyncio.Event()

    async def run(self, job: Job, reply: Reply, wire: Format, *, stream: bool) -> None:
        """Answer a job in a wire format."""
        await commit_early_fault(job.knobs, reply)
        if reply.has_begun:
            return
        answer = compose(job)
        try:
            async with self._scheduler.turn(
                job.model,
                load_options=job.options.load_options,
                context_length=min(job.options.num_ctx, CONTEXT_LENGTH),
                keep_alive=job.keep_alive,
            ) as turn:
                self._stats.started(job.prompt)
                await self._answer(job, answer, turn, reply, wire, stream=stream)
        except QueueFullError:
            raise Refusal(503, QUEUE_FULL) from None

    async def _answer(self, job: Job, answer: Answer, turn: Turn, reply: Reply, wire: Format, *, stream: bool) -> None:
        answer.load_seconds = turn.load_seconds
        if job.knobs.f:
            await asyncio.sleep(job.knobs.f / 1000)
        answer.first_token = time.monotonic()
        fault, stop = _late_fault(job.knobs, len(answer.tokens))
        await self._tell(job, answer, reply, wire, stop, stream=stream)
        if fault is not None:
            await _commit_late_fault(fault, answer, reply, wire, stream=stream)
            return
        if not stream:
            reply.json(200, wire.whole(answer, True))
        else:
            await self._write(job, reply, wire.content_type, wire.last(answer))
            if job.knobs.linger is not None:
                await forever()
            reply.end()
        self._stats.finished(job.prompt)

    async def _tell(self, job: Job, answer: Answer, reply: Reply, wire: Format, stop: int, *, stream: bool) -> None:
        """Take the time that tokens take, and write them where they are streamed."""
        written = 0
        if job.knobs.hold is not None:
            written = min(job.knobs.hold, stop)
            if stream:
                await self._stream(job, answer, reply, wire, range(written))
            await self._may_go_on.wait()
        if stream:
            await self._stream(job, answer, reply, wire, range(written, stop))
        elif job.knobs.d:
            await asyncio.sleep(job.knobs.d / 1000 * max(stop - 1, 0))

    async def _stream(self, job: Job, answer: Answer, reply: Reply, wire: Format, tokens: range) -> None:
        if job.knobs.split is not None:
            for index in tokens:
                await self._write(job, reply, wire.content_type, [wire.render(answer, index, index + 1)])
                await asyncio.sleep((job.knobs.d or 0) / 1000)
        elif job.knobs.d:
            await _Pump(reply, wire, answer, tokens, job.knobs.d / 1000).finished
        elif tokens:
            reply.write(wire.content_type, [wire.render(answer, index, index + 1) for index in tokens])

    async def _write(self, job: Job, reply: Reply, content_type: str, parts: list[bytes]) -> None:
        if job.knobs.split is None:
            reply.write(content_type, parts)
            return
        size = max(job.knobs.split, 1)
        for part in parts:
            for start in range(0, len(part), size):
                reply.write(content_type, [part[start : start + size]])
                await asyncio.sleep(PAUSE_BETWEEN_SPLITS_SECONDS)


class _Pump:
    """Writes one token per interval by timer callbacks: a task switch per token would double the CPU."""

    def __init__(self, reply: Reply, wire: Format, answer: Answer, tokens: range, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = self._loop.create_future()
        self._reply, self._wire, self._answer, self._stop = reply, wire, answer, tokens.stop
        self._seconds = seconds
        self._index = tokens.start
        self._due = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        if self.finished.done():  # the client went away
            return
        if self._index < self._stop:
            part = self._wire.render(self._answer, self._index, self._index + 1)
            self._reply.write(self._wire.content_type, [part])
            self._index += 1
        if self._index >= self._stop:
            self.finished.set_result(None)
            return
        self._due += self._seconds
        self._loop.call_at(self._due, self._tick)


async def forever() -> None:
    """Wait until the client goes away."""
    await asyncio.get_running_loop().create_future()


async def commit_early_fault(given: Knobs, reply: Reply) -> None:
    """Commit the faults that come before an answer; has_begun tells whether one was."""
    if given.hang is not None:
        await forever()
    if given.reset is not None:
        reply.has_begun = True
        reply.abort()
    elif given.html is not None:
        reply.send(200, "text/html", b"<html><body>It works!</body></html>")
    elif given.status in {502, 504}:
        reply.send(given.status, "text/html", b"<html><h1>Bad Gateway</h1></html>")
    elif given.status is not None:
        raise Refusal(given.status, STATUS_TEXTS.get(given.status, f"status {given.status} on demand"))


def _late_fault(given: Knobs, tokens: int) -> tuple[str | None, int]:
    """Name the fault, and how many tokens are sent before it; without a fault, all."""
    for name in ("stall", "cut", "error", "eof"):
        at = getattr(given, name)
        if at is not None:
            return name, min(at, tokens)
    return None, tokens


async def _commit_late_fault(fault: str, answer: Answer, reply: Reply, wire: Format, *, stream: bool) -> None:
    if fault == "stall":
        await forever()
    elif fault == "cut":
        await asyncio.sleep(0.01)  # let what was written leave; a reset discards it
        reply.abort()
    elif fault == "error" and not reply.has_begun:
        raise Refusal(500, RUNNER_CRASHED)
    elif fault == "error":
        reply.write(wire.content_type, [wire.error_line(RUNNER_CRASHED)])
        reply.end()
    elif stream:
        reply.write(wire.content_type, [])
        reply.end()
    else:
        reply.json(200, wire.whole(answer, False))
