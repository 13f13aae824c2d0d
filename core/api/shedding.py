"""Load shedding: who gets one of the web process's threads, and who is refused when too many ask.

Waiting for a thread costs little while the server catches up again and again. Once it has not for a while, everybody
would wait as long as they may, and get their answers when nobody waits for them any more. From then on only those are
served who get a thread soon, and the others learn at once that they should come again: the controlled delay of RFC
8289, as servers use it for their queues.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

READING = frozenset({"GET", "HEAD", "OPTIONS"})
WRITERS_LEAVE = 4  # one of so many threads to those who only read: writers may have to wait for the database
PROGRAMS_LEAVE = 8  # one of so many threads to people at the pages, who are to see what overloads the server
PROGRAMS = "/api/"
BEHIND_SECONDS = 0.5  # how long one waits while the server does not catch up


class NoThread(Exception):
    """Every thread that a request may have was taken for too long."""


class Shares:
    """The threads of this process. patience: seconds to wait for one while the server catches up."""

    def __init__(self, threads: int, patience: float) -> None:
        self._all = _Share(threads, patience)
        self._of_programs = _Share(threads - threads // PROGRAMS_LEAVE, patience)
        self._of_writers = _Share(threads - threads // WRITERS_LEAVE, patience)

    @asynccontextmanager
    async def thread_for(self, method: str, path: str) -> AsyncIterator[None]:
        """Hold a thread while the block runs. Raises NoThread."""
        async with AsyncExitStack() as held:
            if method not in READING:
                await held.enter_async_context(self._of_writers.one())
            if path.startswith(PROGRAMS):
                await held.enter_async_context(self._of_programs.one())
            await held.enter_async_context(self._all.one())
            yield


class _Share:
    def __init__(self, threads: int, patience: float) -> None:
        self._free = asyncio.Semaphore(threads)
        self._patience = patience
        self._caught_up_at = 0.0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds_to_wait()):
                await self._free.acquire()
        except TimeoutError:
            raise NoThread from None
        try:
            yield
        finally:
            self._free.release()

    def _seconds_to_wait(self) -> float:
        now = monotonic()
        if not self._free.locked():
            self._caught_up_at = now
        is_behind = now - self._caught_up_at > self._patience
        return min(BEHIND_SECONDS, self._patience) if is_behind else self._patience
