"""Load shedding: who gets one of the web process's threads, and who is refused when too many ask.

Waiting for a thread costs little while the server catches up again and again. Once it has not for a while, everybody
would wait as long as they may, and get their answers when nobody waits for them any more. From then on only those are
served who get a thread soon, and the others learn at once that they should come again: the controlled delay of RFC
8289, as servers use it for their queues.

Writers leave some threads to those who only read, as they may have to wait for the database; and programs leave some
to the pages, so that people see what overloads the server.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

from core.net.places import Counters
from core.ops.pools import THREADS, Reading

READING = frozenset({"GET", "HEAD", "OPTIONS"})
PROGRAMS = "/api/"
WRITERS_LEAVE = 4  # one of so many threads to readers
PROGRAMS_LEAVE = 8  # one of so many threads to pages
BEHIND_SECONDS = 0.5  # how long one waits while the server does not catch up


class NoThread(Exception):
    """Every thread that a request may have was taken for too long."""


class Kind(NamedTuple):
    """What decides which threads a request may have."""

    is_program: bool
    writes: bool

    @classmethod
    def of(cls, method: str, path: str) -> "Kind":
        return cls(is_program=path.startswith(PROGRAMS), writes=method not in READING)

    def covers(self, other: "Kind") -> bool:
        """Whether the limit of this kind holds for the other, too."""
        return self.is_program <= other.is_program and self.writes <= other.writes


KINDS = tuple(Kind(is_program, writes) for is_program in (False, True) for writes in (False, True))


class Threads:
    """The threads of this process. patience: seconds to wait for one while the server catches up."""

    def __init__(self, count: int, patience: float) -> None:
        self._count = count
        self._patience = patience
        self._limits = {kind: max(1, count - _left_by(kind, count)) for kind in KINDS}
        self._taken = Counter(dict.fromkeys(KINDS, 0))  # never grows, so another thread may read it
        self._waiting: dict[asyncio.Future[None], Kind] = {}
        self._caught_up_at = dict.fromkeys(KINDS, 0.0)
        self._asked = self._waited = 0

    def reading(self) -> Reading:
        """Tell how many are in use, as of any other pool."""
        in_use = self._taken.total()
        counters = Counters(requests=self._asked, waits=self._waited, in_use=in_use, waiting=len(self._waiting))
        return Reading(THREADS, self._count, counters, in_use / self._count)

    @asynccontextmanager
    async def one_for(self, method: str, path: str) -> AsyncIterator[None]:
        """Hold a thread while the block runs. Raises NoThread."""
        kind = Kind.of(method, path)
        self._asked += 1
        if self._has_one_for(kind):
            self._caught_up_at[kind] = monotonic()
            self._taken[kind] += 1
        else:
            await self._wait(kind)
        try:
            yield
        finally:
            self._give_back(kind)

    def _has_one_for(self, kind: Kind) -> bool:
        """Whether every limit that holds for this kind leaves one."""
        return all(
            sum(self._taken[other] for other in KINDS if limited.covers(other)) < limit
            for limited, limit in self._limits.items()
            if limited.covers(kind)
        )

    async def _wait(self, kind: Kind) -> None:
        self._waited += 1
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = kind
        try:
            async with asyncio.timeout(self.seconds_to_wait(kind)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the very moment when nobody waited any more
                self._give_back(kind)
            if isinstance(error, TimeoutError):
                raise NoThread from None
            raise
        finally:
            self._waiting.pop(turn, None)

    def seconds_to_wait(self, kind: Kind) -> float:
        is_behind = monotonic() - self._caught_up_at[kind] > self._patience
        return min(BEHIND_SECONDS, self._patience) if is_behind else self._patience

    def _give_back(self, kind: Kind) -> None:
        """Let the first of those who wait, and may have it, take it."""
        self._taken[kind] -= 1
        free = frozenset(filter(self._has_one_for, KINDS))
        for turn, waiting in self._waiting.items():
            if waiting in free and not turn.done():
                self._taken[waiting] += 1
                turn.set_result(None)
                return


def _left_by(kind: Kind, count: int) -> int:
    """How many threads a kind leaves to others, rounded up."""
    of_writers = -(-count // WRITERS_LEAVE) if kind.writes else 0
    of_programs = -(-count // PROGRAMS_LEAVE) if kind.is_program else 0
    return of_writers + of_programs
