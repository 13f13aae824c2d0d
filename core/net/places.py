"""How many calls of a kind go to one target at a time: one count for the threads and the event loop of a process."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from cachetools import cached
from django.conf import settings

from core.net.calls import Target, Timeouts

# Model servers, agents on other machines, and everything else: the pools of the settings.
OLLAMA = "ollama"
AGENTS = "agents"
EXTERNAL = "external"
NAMES = (OLLAMA, AGENTS, EXTERNAL)

Waiter = Future[None]


@dataclass(frozen=True, slots=True)
class Counters:
    """What a pool did since the process started; `in_use` and `waiting` are calls of this moment.

    waits: how often somebody had to wait.
    """

    requests: int = 0
    connection_errors: int = 0
    waits: int = 0
    in_use: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Queue:
    """The calls to one target: those that have a place, and those that wait for one."""

    taken: int = 0
    waiters: deque[Waiter] = field(default_factory=deque)


class Places:
    """The places of one pool, whoever takes them. Who comes first is served first.

    limit: calls to one target at a time. wait_seconds: how long a call waits for a place, unless it says so itself.
    """

    def __init__(self, name: str, *, limit: int, wait_seconds: float) -> None:
        self.name = name
        self.limit = limit
        self.wait_seconds = wait_seconds
        self._queues: dict[Target, _Queue] = {}
        self._requests = 0
        self._connection_errors = 0
        self._waits = 0
        self._lock = threading.Lock()

    def counters(self) -> Counters:
        with self._lock:
            in_use = sum(queue.taken for queue in self._queues.values())
            waiting = sum(len(queue.waiters) for queue in self._queues.values())
            return Counters(self._requests, self._connection_errors, self._waits, in_use, waiting)

    def utilisation(self) -> float:
        """How full the fullest target is, between 0 and 1."""
        with self._lock:
            return max((queue.taken for queue in self._queues.values()), default=0) / self.limit

    def patience(self, timeouts: Timeouts) -> float:
        """How long a call with these limits waits for a place."""
        return self.wait_seconds if timeouts.pool is None else timeouts.pool

    def count_connection_error(self) -> None:
        with self._lock:
            self._connection_errors += 1

    def take(self, target: Target, patience_seconds: float) -> None:
        """Count a call, and wait in this thread until there is a place for it. Raises TimeoutError."""
        waiter = self._enter(target)
        if waiter is not None:
            with self._waiting(target, waiter):
                waiter.result(patience_seconds)

    async def take_async(self, target: Target, patience_seconds: float) -> None:
        """The same on the event loop; a task that is cancelled meanwhile keeps no place."""
        waiter = self._enter(target)
        if waiter is not None:
            with self._waiting(target, waiter):
                async with asyncio.timeout(patience_seconds):
                    await asyncio.wrap_future(waiter)

    def _enter(self, target: Target) -> Waiter | None:
        with self._lock:
            self._requests += 1
            queue = self._queues.get(target)
            if queue is None:
                queue = self._queues[target] = _Queue()
            if queue.taken < self.limit:
                queue.taken += 1
                return None
            self._waits += 1
            waiter = Waiter()
            queue.waiters.append(waiter)
            return waiter

    @contextlib.contextmanager
    def _waiting(self, target: Target, waiter: Waiter) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self._leave(target, waiter)
            raise TimeoutError(f"all {self.limit} places are taken") from None
        except BaseException:
            self._leave(target, waiter)
            raise

    def _leave(self, target: Target, waiter: Waiter) -> None:
        """Give up waiting. A place that came at the last moment goes to the next."""
        with self._lock:
            came_too_late = not waiter.cancel()
            queue = self._queues.get(target)
            if queue is not None and waiter in queue.waiters:
                queue.waiters.remove(waiter)
        if came_too_late:
            self.give(target)

    def give(self, target: Target) -> None:
        """Give a place back: to who waits longest, if anybody does."""
        with self._lock:
            queue = self._queues[target]
            while queue.waiters:
                waiter = queue.waiters.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)
                    return
            queue.taken -= 1
            if queue.taken == 0:
                del self._queues[target]  # targets come and go


@cached({}, lock=threading.Lock())  # the same for threads that are the first to ask, at the same time
def places(name: str) -> Places:
    """Return the process's places of that name, with the limits of the settings."""
    return Places(name, limit=settings.POOL_CONNECTIONS[name], wait_seconds=settings.POOL_WAIT_SECONDS)
