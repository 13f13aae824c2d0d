"""How processes learn that a task has news without asking the database all the time.

With Redis: a message per commit, with the ids of the tasks. On SQLite: the file's data version, which costs
microseconds to look at. Otherwise followers look at the rows every 50 ms while anyone follows.
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from django.conf import settings
from django.db import connection

from agents.engine import hints
from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

CHANNEL = "sutazai:task-news"
DATA_VERSION_SECONDS = 0.005
POLL_SECONDS = 0.05
RECONNECT_SECONDS = 1.0


class Publisher:
    """Lets other processes hear of this one's commits, where Redis is configured.

    It has a thread of its own, because whoever committed must not wait for Redis.
    """

    def __init__(self) -> None:
        self._news: queue.SimpleQueue[Sequence[uuid.UUID] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if settings.REDIS_URL and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="engine-publisher", daemon=True)
            self._thread.start()
            hints.changed_listeners.append(self._news.put)

    def stop(self, timeout_seconds: float) -> None:
        """Publish what is left, then end the thread."""
        if self._thread is not None:
            self._news.put(None)
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        is_open = True
        while is_open:
            gathered = [self._news.get()]
            while not self._news.empty():
                gathered.append(self._news.get())
            is_open = None not in gathered
            self._publish({task_id for task_ids in gathered if task_ids for task_id in task_ids})

    def _publish(self, task_ids: set[uuid.UUID]) -> None:
        from django_redis import get_redis_connection  # noqa: PLC0415 - only where Redis is configured

        if not task_ids:
            return
        try:
            get_redis_connection("default").publish(CHANNEL, b"".join(task_id.bytes for task_id in task_ids))
        except redis_errors() as error:
            logger.warning("Redis took no wake-up; followers will look for themselves: %s", error)
        except Exception:
            logger.exception("Redis took no wake-up; followers will look for themselves.")


publisher = Publisher()


def redis_errors() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError  # noqa: PLC0415 - only where Redis is configured

    return (RedisError, OSError)


Wake = Callable[[Sequence[uuid.UUID] | None], None]


def listen(wake: Wake, wait_until_needed: Callable[[], None]) -> None:
    """Call `wake` with the ids of changed tasks (None: any may have changed), in a thread of its own.

    wait_until_needed: blocks until anyone follows a task.
    """
    source: Callable[[Wake, Callable[[], None]], None]
    if settings.REDIS_URL:
        source = _listen_to_redis
    elif connection.vendor == "sqlite":
        source = _watch_data_version
    else:
        source = _poll
    start_endless("engine-wakeups", lambda: source(wake, wait_until_needed))


def _listen_to_redis(wake: Wake, _: Callable[[], None]) -> None:
    from django_redis import get_redis_connection  # noqa: PLC0415 - only where Redis is configured

    try:
        with get_redis_connection("default").pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(CHANNEL)
            wake(None)  # something may have been missed while there was no connection
            while True:
                message = subscription.get_message(timeout=2.0)
                if message is not None:
                    data: bytes = message["data"]
                    wake([uuid.UUID(bytes=data[at : at + 16]) for at in range(0, len(data), 16)])
    except redis_errors() as error:
        logger.warning("Redis is away; followers look at the rows instead: %s", error)
        wake(None)
        time.sleep(RECONNECT_SECONDS)


def _watch_data_version(wake: Wake, wait_until_needed: Callable[[], None]) -> None:
    last = None
    while True:
        wait_until_needed()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()[0]
        if version != last:
            last = version
            wake(None)
        time.sleep(DATA_VERSION_SECONDS)


def _poll(wake: Wake, wait_until_needed: Callable[[], None]) -> None:
    wait_until_needed()
    wake(None)
    time.sleep(POLL_SECONDS)
