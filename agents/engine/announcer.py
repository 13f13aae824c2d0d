"""Publishes grants to the broker, so that a runner wakes. The relay repeats what did not get through."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Sequence

from celery import current_app
from kombu.exceptions import OperationalError

from agents.engine import hints, operations, traces
from agents.engine.process import writer
from core.ops.threads import start_endless
from core.tracing import NOTHING

logger = logging.getLogger(__name__)

RUN_TASK = "agents.run"
RUN_QUEUE = "agents"
# Most grants are taken within milliseconds and need no mark; the relay looks after a second.
MARK_SECONDS = 0.5
MARK_EVERY_SECONDS = 0.25  # together


def publish(task_ids: Sequence[uuid.UUID]) -> None:
    """Send one message for each granted task, by name and with nothing but the id. Raises kombu's OperationalError."""
    delay = MARK_SECONDS - time.monotonic() % MARK_EVERY_SECONDS
    spans = traces.publication(RUN_TASK, RUN_QUEUE, task_ids)
    for task_id in task_ids:
        with spans.get(task_id, NOTHING) as span:
            headers = dict(span.headers)
            current_app.send_task(RUN_TASK, args=[str(task_id)], queue=RUN_QUEUE, ignore_result=True, headers=headers)
        writer.send(operations.mark_announced, task_id, delay_seconds=delay)


class Announcer:
    """The thread that publishes: whoever submits a task never waits for the broker."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Sequence[uuid.UUID]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = start_endless("engine-announcer", self._round)
            hints.granted_listeners.append(self._queue.put)

    def _round(self) -> None:
        """Publish what has gathered, each task once. After an error the rest is dropped: the relay repeats it."""
        gathered = dict.fromkeys(self._queue.get())
        while not self._queue.empty():
            gathered |= dict.fromkeys(self._queue.get())
        try:
            publish(list(gathered))
        except (OperationalError, OSError) as error:
            logger.warning("The broker took no message; the relay will repeat it: %s", error)


announcer = Announcer()
