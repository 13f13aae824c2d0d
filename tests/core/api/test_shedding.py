"""Who gets a thread of the web process, and who is told to come again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from core.api import shedding
from core.api.shedding import BEHIND_SECONDS, NoThread, Shares

THREADS = 16
PATIENCE = 5.0


def run(scenario: Callable[[Shares, AsyncExitStack], Awaitable[None]], *, patience: float = PATIENCE) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60), AsyncExitStack() as held:
            await scenario(Shares(THREADS, patience), held)

    asyncio.run(whole())


async def take(shares: Shares, held: AsyncExitStack, method: str, path: str) -> int:
    """Hold threads for such requests until one is refused; returns how many there were."""
    for count in range(THREADS):
        try:
            await held.enter_async_context(shares.thread_for(method, path))
        except NoThread:
            return count
    return THREADS


@pytest.mark.parametrize(
    ("method", "path", "count"),
    [
        ("POST", "/api/v1/tasks/", 12),
        ("POST", "/admin/", 12),
        ("DELETE", "/api/v1/agents/", 12),
        ("GET", "/api/v1/tasks/", 14),
        ("GET", "/admin/", 16),
        ("HEAD", "/dashboard", 16),
    ],
)
def test_a_kind_of_request_has_its_share_of_the_threads(method, path, count):
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        assert await take(shares, held, method, path) == count

    run(scenario, patience=0.01)


def test_people_read_pages_while_programs_and_writers_have_all_of_theirs():
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        assert await take(shares, held, "POST", "/admin/") == 12
        assert await take(shares, held, "GET", "/api/v1/tasks/") == 4
        with pytest.raises(NoThread):
            async with shares.thread_for("GET", "/admin/"):
                pass

    async def programs(shares: Shares, held: AsyncExitStack) -> None:
        assert await take(shares, held, "GET", "/api/v1/tasks/") == 14
        async with shares.thread_for("GET", "/admin/"), shares.thread_for("POST", "/admin/"):
            pass

    run(scenario, patience=0.01)
    run(programs, patience=0.01)


def test_who_waits_gets_the_thread_that_becomes_free():
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        async def ask() -> bool:
            async with shares.thread_for("GET", "/api/v1/tasks/"):
                return True

        async with AsyncExitStack() as others:
            for _ in range(14):
                await others.enter_async_context(shares.thread_for("GET", "/api/v1/tasks/"))
            waiting = asyncio.create_task(ask())
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting

    run(scenario)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shedding, "monotonic", clock)
    return clock


@pytest.mark.parametrize(
    ("patience", "behind_for", "seconds"),
    [(5.0, 0.0, 5.0), (5.0, 4.9, 5.0), (5.0, 5.1, BEHIND_SECONDS), (0.1, 0.2, 0.1)],
)
def test_a_server_that_has_not_caught_up_for_long_lets_nobody_wait_for_long(clock, patience, behind_for, seconds):
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        for _ in range(14):
            await held.enter_async_context(shares.thread_for("GET", "/api/v1/tasks/"))
        clock.now += behind_for
        assert shares._of_programs._seconds_to_wait() == seconds

    run(scenario, patience=patience)


def test_who_comes_while_the_server_is_behind_is_refused_soon(clock):
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        for _ in range(14):
            await held.enter_async_context(shares.thread_for("GET", "/api/v1/tasks/"))
        clock.now += 101
        with pytest.raises(NoThread):
            async with asyncio.timeout(50), shares.thread_for("GET", "/api/v1/tasks/"):
                pass

    run(scenario, patience=100)


def test_a_server_that_had_nothing_to_do_for_long_is_patient_again(clock):
    async def scenario(shares: Shares, held: AsyncExitStack) -> None:
        clock.now += 1000
        for _ in range(THREADS):
            await held.enter_async_context(shares.thread_for("GET", "/admin/"))
        assert shares._all._seconds_to_wait() == PATIENCE

    run(scenario)
