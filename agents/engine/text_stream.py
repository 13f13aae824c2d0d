"""The text of a run on its way into events: the first piece at once, later ones in groups."""

import threading
import time
from concurrent.futures import Future

from agents.engine.grant import Ticket
from agents.engine.operations import Append, append
from agents.engine.process import writer

# Seconds between two writes of one stream: short while few streams run, longer when hundreds share the writer.
SHORTEST_GROUP_SECONDS = 0.05
LONGEST_GROUP_SECONDS = 0.25
SECONDS_PER_STREAM = 0.001


class LeaseLost(Exception):
    """The run does not own its task any more: stop and discard."""


class TextStream:
    """Gathers the pieces of an answer; the writer collects them when their time has come."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._pulled: list[str] = []
        self._write: Future[bool] | None = None
        self._last_write = float("-inf")

    def add(self, text: str, *, live_streams: int) -> None:
        """Take a piece; raises LeaseLost if an earlier one was refused."""
        with self._lock:
            self._waiting.append(text)
        if self._write is not None:
            if not self._write.done():
                return
            if not self._write.result():
                raise LeaseLost
        now = time.monotonic()
        group = min(LONGEST_GROUP_SECONDS, max(SHORTEST_GROUP_SECONDS, live_streams * SECONDS_PER_STREAM))
        delay = max(0.0, self._last_write + group - now)
        self._last_write = now + delay
        change = Append(self._ticket.task_id, self._ticket.fence, self.pull)
        self._write = writer.send(append, change, delay_seconds=delay)

    def pull(self) -> str:
        """Give what has gathered since the last pull."""
        with self._lock:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._pulled.append(text)
        return text

    @property
    def text(self) -> str:
        """All that was pulled: what the events hold, once written."""
        with self._lock:
            return "".join(self._pulled)
