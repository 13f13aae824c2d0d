"""Has workers send soon what a commit made due. Nobody waits for the broker, least the engine: a thread talks to it.

A message that is lost delays what it tells of: the rows say what is due, and jobs come by.
"""

import logging
import queue
import threading
import uuid
from collections.abc import Sequence
from functools import cache

from celery import current_app
from kombu.exceptions import OperationalError

from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

_to_announce: queue.SimpleQueue[tuple[str, Sequence[uuid.UUID]]] = queue.SimpleQueue()


def announce(task: str, keys: Sequence[uuid.UUID]) -> None:
    """Have a worker run a task, by its name, with each of these keys."""
    _to_announce.put((task, keys))
    _announcer()


@cache
def _announcer() -> threading.Thread:
    return start_endless("notification-announcer", _announce_next)


def _announce_next() -> None:
    task, keys = _to_announce.get()
    for key in keys:
        try:
            current_app.send_task(task, args=[str(key)], ignore_result=True)
        except (OperationalError, OSError) as error:
            logger.warning("The broker took no message; %s is done a little later: %s", task, error)
