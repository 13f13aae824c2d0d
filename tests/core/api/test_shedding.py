"""Who gets a thread of the web process, and who is told to come again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from core.api import shedding
from core.api.shedding import BEHIND_SECONDS, Kind, NoThread, Threads

THREADS = 16
PATIENCE = 5.0
PAGE, FORM = ("GET", "/admin/"), ("POST", "/admin/")
LIST, SUBMIT = ("GET", "/api/v1/tasks/"), ("POST", "/api/v1/tasks/")


def run(scenario: Callable[[Threads, AsyncExitStack], Awaitable[None]], *, patience: float = PATIENCE) -> None:
    async def whole() -> None:
        threads = Threads(THREADS, patience)
        async with asyncio.timeout(60):
            async with AsyncExitStack() as held:
                await scenario(threads, held)
        assert threads.reading().counters.in_use == threads.reading().counters.waiting == 0

    asyncio.run(whole())


async def take(threads: Threads, held: AsyncExitStack, request: tuple[str, str]) -> int:
    """Hold threads for such requests until one is refused; returns how many there were."""
    for count in range(THREADS):
        try:
            await held.enter_async_context(threads.one_for(*request))
        except NoThread:
            return count
    return THREADS


async def fill(threads: Threads, held: AsyncExitStack, request: tuple[str, str], count: int) -> None:
    for _ in range(count):
        await held.enter_async_context(threads.one_for(*request))


async def hold(threads: Threads, request: tuple[str, str], until: asyncio.Event) -> None:
    async with threads.one_for(*request):
        await until.wait()


async def waiting(threads: Threads, count: int) -> None:
    while threads.reading().counters.waiting != count:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (SUBMIT, 10),
        (("DELETE", "/api/v1/agents/"), 10),
        (FORM, 12),
        (LIST, 14),
        (PAGE, 16),
        (("HEAD", "/dashboard"), 16),
    ],
)
def test_a_kind_of_request_has_its_share_of_the_threads(request_, count):
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        assert await take(threads, held, request_) == count

    run(scenario, patience=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_few_threads_serve_every_kind_of_request(count):
    async def whole() -> None:
        threads = Threads(count, patience=0.01)
        for request in (SUBMIT, FORM, LIST, PAGE):
            async with threads.one_for(*request):
                pass
        async with AsyncExitStack() as held:
            taken = await take(threads, held, SUBMIT)
            assert taken == 1 or taken < count
            assert (await take(threads, held, PAGE) > 0) == (count > 1)

    asyncio.run(whole())


def test_people_read_and_write_while_programs_have_all_of_theirs_and_wait_for_more():
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        await fill(threads, held, LIST, 14)
        end = asyncio.Event()
        programs = [asyncio.create_task(hold(threads, SUBMIT, end)) for _ in range(50)]
        await waiting(threads, 50)
        async with threads.one_for(*FORM), threads.one_for(*PAGE):
            assert threads.reading().counters.in_use == THREADS
        end.set()
        await held.aclose()
        await asyncio.gather(*programs)

    run(scenario, patience=60)


def test_those_who_only_read_find_a_thread_while_every_writer_waits():
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        end = asyncio.Event()
        writers = [asyncio.create_task(hold(threads, request, end)) for request in (SUBMIT, FORM) for _ in range(20)]
        await waiting(threads, 40 - 12)
        async with threads.one_for(*LIST), threads.one_for(*PAGE):
            pass
        end.set()
        await asyncio.gather(*writers)

    run(scenario, patience=60)


def test_who_waits_longest_gets_the_thread_that_becomes_free():
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        served = []

        async def ask(number: int) -> None:
            async with threads.one_for(*LIST):
                served.append(number)
                await asyncio.sleep(0)

        async with AsyncExitStack() as others:
            await fill(threads, others, LIST, 14)
            asking = [asyncio.create_task(ask(number)) for number in range(30)]
            await waiting(threads, 30)
            assert not served
        await asyncio.gather(*asking)
        assert served == list(range(30))
        assert threads.reading().counters.waits == 30

    run(scenario)


def test_a_thread_that_a_reader_gives_back_goes_to_who_may_have_it():
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        end = asyncio.Event()
        async with AsyncExitStack() as reader:
            await fill(threads, held, SUBMIT, 10)
            await fill(threads, held, LIST, 3)
            await fill(threads, reader, LIST, 1)
            submitting = asyncio.create_task(hold(threads, SUBMIT, end))
            listing = asyncio.create_task(hold(threads, LIST, end))
            await waiting(threads, 2)
        await waiting(threads, 1)
        assert not submitting.done()
        await held.aclose()
        await waiting(threads, 0)
        end.set()
        await asyncio.gather(submitting, listing)

    run(scenario)


def test_who_leaves_while_waiting_takes_no_thread():
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        never = asyncio.Event()
        async with AsyncExitStack() as others:
            await fill(threads, others, LIST, 14)
            leaving = [asyncio.create_task(hold(threads, LIST, never)) for _ in range(3)]
            await waiting(threads, 3)
            leaving[0].cancel()
            await asyncio.wait(leaving[:1])
            assert threads.reading().counters.waiting == 2
        leaving[1].cancel()  # in the same moment as its turn comes
        await asyncio.wait(leaving[1:2])
        assert threads.reading().counters.in_use == 1
        leaving[2].cancel()
        await asyncio.wait(leaving)

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
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        await fill(threads, held, LIST, 14)
        clock.now += behind_for
        assert threads.seconds_to_wait(Kind.of(*LIST)) == seconds

    run(scenario, patience=patience)


def test_who_comes_while_the_server_is_behind_is_refused_soon(clock):
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        await fill(threads, held, LIST, 14)
        clock.now += 101
        with pytest.raises(NoThread):
            async with asyncio.timeout(50), threads.one_for(*LIST):
                pass

    run(scenario, patience=100)


def test_a_server_that_had_nothing_to_do_for_long_is_patient_again(clock):
    async def scenario(threads: Threads, held: AsyncExitStack) -> None:
        clock.now += 1000
        await fill(threads, held, PAGE, THREADS)
        assert threads.seconds_to_wait(Kind.of(*PAGE)) == PATIENCE

    run(scenario)
