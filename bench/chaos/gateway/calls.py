"""Clients of the gateway: each makes one call, in one format, and notes what came of it and when."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bench import tasks
from bench.chaos.gateway.wire import End, Heard, StreamReader, Wire, read_whole
from bench.client import Client
from tests.ollama_server import knobs

TASK_HEADER, NODE_HEADER = "x-sutazai-task", "x-sutazai-node"
# As official clients wait.
TIMEOUT_SECONDS = 600


class Outcome(Enum):
    """What came of a call."""

    OPEN = "open"  # nothing yet
    ANSWERED = "answered"  # the whole answer, and an end that says so
    REFUSED = "refused"  # nothing of an answer, but the reason
    BROKEN_OFF = "broken off"  # a stream that began, and says that it failed
    LEFT = "left"  # by the client itself
    CUT_OFF = "cut off"  # the connection ended before the answer did
    WRONG = "wrong"  # an end that says that all is well, after another answer


@dataclass(eq=False)
class Call:
    """One call. Moments are those of time.perf_counter(); it began when the head of the answer came.

    key: what makes a second call the same one, where there is one. may: what may come of it.
    """

    wire: Wire
    prompt: str
    streams: bool
    key: str = ""
    sent_at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    cut: str = ""
    has_left: bool = False
    may: set[Outcome] = field(default_factory=lambda: {Outcome.ANSWERED})

    def __str__(self) -> str:
        what = self.cut or self.heard.error or (self.heard.text if self.outcome is Outcome.WRONG else "")
        return f"{self.wire.name}{' stream' if self.streams else ''} {self.prompt!r}: {self.outcome.value} {what}"

    @property
    def task(self) -> str:
        return self.headers.get(TASK_HEADER, "")

    @property
    def node(self) -> str:
        return self.headers.get(NODE_HEADER, "")

    @property
    def has_begun(self) -> bool:
        return self.status == 200

    @property
    def outcome(self) -> Outcome:
        if self.has_left:
            return Outcome.LEFT
        if not self.ended_at:
            return Outcome.OPEN
        if self.heard.end is End.DONE:
            is_whole = self.heard.text == tasks.expected_answer(self.prompt)
            return Outcome.ANSWERED if is_whole else Outcome.WRONG
        if self.heard.end is End.ERROR:
            return Outcome.BROKEN_OFF if self.has_begun else Outcome.REFUSED
        return Outcome.CUT_OFF

    @property
    def models_seconds(self) -> float:
        """How long the model server takes by itself until the answer begins, or, where it comes whole, ends."""
        given = knobs.in_prompt(self.prompt)
        pauses = 0 if self.streams else (given.d or 0) * ((given.t or 1) - 1)
        return ((given.f or 0) + pauses) / 1000

    def waited(self, since: float) -> float:
        """Seconds from a moment, or from a later call, to a refusal or, without the model's own time, an answer."""
        own = self.models_seconds if self.has_begun else 0.0
        return self.began_at - max(since, self.sent_at) - own

    async def make(self, client: Client) -> None:
        """Make the call, and take what comes until its end, or that of the connection."""
        reader, parts = StreamReader(self.wire, self.heard), list[bytes]()

        def begin(status: int, headers: Mapping[str, str]) -> None:
            self.status, self.headers = status, headers
            self.began_at = time.perf_counter()

        def take(data: bytes) -> None:
            if self.has_begun and self.streams:
                reader.feed(data)
            else:
                parts.append(data)

        self.sent_at = time.perf_counter()
        body = self.wire.body(self.prompt, streams=self.streams)
        keyed = {"Idempotency-Key": self.key} if self.key else {}
        try:
            await client.request("POST", self.wire.path, body, headers=keyed, on_head=begin, on_body=take)
        except OSError as error:
            self.cut = str(error) or type(error).__name__
        self.ended_at = time.perf_counter()
        if parts and not self.cut:
            read_whole(self.wire, self.heard, b"".join(parts))


class Callers:
    """All clients of one fault."""

    def __init__(self, url: str, key: str) -> None:
        self.client = Client(url, key=key, timeout_seconds=TIMEOUT_SECONDS)
        self.calls: list[Call] = []
        self._running: dict[Call, asyncio.Task[None]] = {}

    def call(self, wire: Wire, prompt: str, *, streams: bool, key: str = "") -> Call:
        """Begin a call, and do not wait for it."""
        call = Call(wire, prompt, streams, key)
        self.calls.append(call)
        self._running[call] = asyncio.create_task(call.make(self.client))
        return call

    async def leave(self, call: Call) -> None:
        """Have a client go in the middle of its call."""
        call.has_left = not call.ended_at
        self._running[call].cancel()
        await asyncio.wait([self._running[call]])

    async def drain(self, seconds: float) -> None:
        """Wait until every call has ended, at most so long. Raises whatever no format knows as an answer."""
        if not self._running:
            return
        done, left = await asyncio.wait(self._running.values(), timeout=seconds)
        for running in left:
            running.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for running in done:
            if not running.cancelled():
                running.result()

    def close(self) -> None:
        self.client.close()
