"""Tasks whose answers somebody waits for at the other end of a connection.

They wait for a slot as long as there may be one. Once no node is left that could run them, whoever waits is better
told so at once, as whoever asks then is: a thread looks twice a second for such tasks and ends them.
"""

import threading
import time
import uuid

from django.db import connection

from agents.engine import operations, routing
from agents.engine.process import writer
from agents.models import AgentTask
from core.ops.threads import start_endless

LOOK_SECONDS = 0.5
BATCH = 500


class Awaited:
    """The tasks of this process that somebody waits for, with the models that they run on."""

    def __init__(self) -> None:
        self._waits: dict[object, tuple[uuid.UUID, str]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def begin(self, task_id: uuid.UUID, model: str) -> object:
        """Have somebody wait for a task; others may wait for it too. Returns what `end` takes."""
        wait = object()
        with self._changed:
            self._waits[wait] = (task_id, model)
            if self._thread is None:
                self._thread = start_endless("engine-awaited", self._round)
            if len(self._waits) == 1:
                self._changed.notify()
        return wait

    def end(self, wait: object) -> None:
        with self._changed:
            del self._waits[wait]

    def _round(self) -> None:
        if not self._waits:
            connection.close()  # nothing to look after: do not keep one from the pool
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waits))
        time.sleep(LOOK_SECONDS)  # most have their answer by then
        with self._changed:
            models = dict(self._waits.values())
        end_hopeless(models)


def end_hopeless(models: dict[uuid.UUID, str]) -> None:
    """End those of these tasks, given with the models that they run on, that wait although no node could run them."""
    lost = routing.unreachable(set(models.values())) if models else set()
    hopeless = [task_id for task_id, model in models.items() if model in lost]
    for task_id in AgentTask.objects.queued().filter(pk__in=hopeless[:BATCH]).values_list("pk", flat=True):
        writer.send(operations.give_up, task_id)


awaited = Awaited()
