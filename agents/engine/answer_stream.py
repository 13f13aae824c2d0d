"""The answer of a run on its way into events, in groups of pieces; the first goes at once to whoever waits for it."""

import math
import threading
import time
from collections.abc import Sized
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime

from agents.engine.grant import Ticket
from agents.engine.operations import Append, append
from agents.engine.pieces import join, piece_of
from agents.engine.process import writer
from agents.ollama.types import ChatChunk, JsonObject
from core.ops import clock
from core.ops.threads import outcome

# Seconds between two writes of one stream. Where its events are waited for: short while few streams run, longer when
# hundreds share the writer. Streams that are written often are written at the same moments, in one transaction.
SHORTEST_GROUP_SECONDS = 0.05
LONGEST_GROUP_SECONDS = 0.25
SECONDS_PER_STREAM = 0.001


class LeaseLost(Exception):
    """The run does not own its task any more: stop and discard."""


class AnswerStream:
    """Gathers the pieces of an answer; the writer collects them when their time has come.

    is_followed: whether whoever waits for the answer reads it from the events, and so wants the first one at once.
    spoke_at: when the first piece came.
    """

    def __init__(self, ticket: Ticket, *, is_followed: bool) -> None:
        self._ticket = ticket
        self._lock = threading.Lock()
        self._waiting: list[JsonObject] = []
        self._pulled: list[JsonObject] = []
        # Oldest first. One may be on its way to the disk while the next, for what came since, waits for its time.
        self._writes: list[Future[bool]] = []
        self._is_scheduled = False
        self._has_news = False  # of a write that ended
        self._is_followed = is_followed
        self._last_write = float("-inf") if is_followed else time.monotonic()
        self.spoke_at: datetime | None = None

    def add(self, chunk: ChatChunk, *, beside: Sized) -> None:
        """Take a piece. Raises LeaseLost if an earlier one was refused, and what writing it failed with.

        beside: the streams that the process has, this one among them.
        """
        if self._has_news:
            self._has_news = False
            self._check([write for write in self._writes if write.done()])
        piece = piece_of(chunk)
        if not piece:
            return
        if self.spoke_at is None:
            self.spoke_at = clock.now()
        with self._lock:
            self._waiting.append(piece)
            if self._is_scheduled:
                return
            self._is_scheduled = True
        now = time.monotonic()
        self._last_write = self._next_write(now, len(beside))
        change = Append(self._ticket.task_id, self._ticket.fence, self.spoke_at, self._pull)
        write = writer.send(append, change, delay_seconds=self._last_write - now, is_traced=False)
        self._writes.append(write)
        write.add_done_callback(self._ended)

    def _next_write(self, now: float, streams: int) -> float:
        """When to write what comes now."""
        if self._last_write == float("-inf"):
            return now
        share = streams * SECONDS_PER_STREAM
        group = max(SHORTEST_GROUP_SECONDS, share) if self._is_followed else LONGEST_GROUP_SECONDS
        beat = min(SHORTEST_GROUP_SECONDS, share)
        earliest = max(now, self._last_write + min(LONGEST_GROUP_SECONDS, group))
        return math.ceil(earliest / beat) * beat

    def _ended(self, write: "Future[bool]") -> None:
        self._has_news = True

    async def settle(self) -> None:
        """On an event loop: wait for what is being written, so that `finish` need not."""
        for write in [write for write in self._writes if not write.cancel()]:
            with suppress(Exception):  # `finish` tells of it
                await outcome(write)

    def finish(self) -> JsonObject:
        """Return what is not written yet, for the write that ends the run. Raises as `add`."""
        self._check([write for write in self._writes if not write.cancelled() and not write.cancel()])
        return self._pull()

    def _check(self, writes: list["Future[bool]"]) -> None:
        """Make sure that these were written: an answer must not end with a piece missing in its middle."""
        for write in writes:
            if not write.result():
                raise LeaseLost
            self._writes.remove(write)

    def _pull(self) -> JsonObject:
        """Give what has gathered since the last pull."""
        with self._lock:
            self._is_scheduled = False
            piece = join(self._waiting)
            self._waiting.clear()
            self._pulled.append(piece)
        return piece

    @property
    def piece(self) -> JsonObject:
        """All that was pulled, as one piece."""
        with self._lock:
            return join(self._pulled)

    @property
    def text(self) -> str:
        """The text of all that was pulled: what the events hold, once written."""
        with self._lock:
            return "".join(piece.get("text", "") for piece in self._pulled)
