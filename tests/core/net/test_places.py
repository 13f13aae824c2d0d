"""Who may call, and who waits."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from core.net import places as module
from core.net.calls import Target
from core.net.places import NAMES, Counters, Places, places

HERE = Target("http", "here", 80)
THERE = Target("http", "there", 80)


@pytest.fixture
def two() -> Places:
    return Places("test", limit=2, wait_seconds=5)


def test_each_target_has_places_of_its_own(two):
    for target in (HERE, HERE, THERE):
        two.take(target, 0)
    assert two.counters() == Counters(requests=3, in_use=3)
    assert two.utilisation() == 1.0
    with pytest.raises(TimeoutError, match="all 2 places are taken"):
        two.take(HERE, 0)
    two.take(THERE, 0)


def test_targets_without_calls_are_forgotten(two):
    two.take(HERE, 0)
    two.give(HERE)
    assert two._queues == {}
    assert two.utilisation() == 0.0


def test_who_came_first_is_served_first(two, wait_until):
    two.take(HERE, 0)
    two.take(HERE, 0)
    served: list[int] = []

    def wait_and_note(number: int) -> None:
        two.take(HERE, 20)
        served.append(number)

    with ThreadPoolExecutor() as threads:
        for number in range(3):
            threads.submit(wait_and_note, number)
            wait_until(lambda waiting=number + 1: two.counters().waiting == waiting)
        for number in range(3):
            two.give(HERE)
            wait_until(lambda done=number + 1: len(served) == done)
    assert served == [0, 1, 2]
    assert two.counters().in_use == 2


class Crowd:
    """Threads and tasks that want the same places, some of which give up; counts how many had one at a time."""

    def __init__(self, wanted: Places) -> None:
        self.places = wanted
        self.inside = self.most = 0
        self._lock = threading.Lock()

    @contextmanager
    def pass_through(self) -> Iterator[None]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1
            self.places.give(HERE)

    def thread(self, number: int) -> None:
        with suppress(TimeoutError):
            self.places.take(HERE, 0.001 if number % 5 == 0 else 20)
            with self.pass_through():
                pass

    async def task(self) -> None:
        await self.places.take_async(HERE, 20)
        with self.pass_through():
            await asyncio.sleep(0)

    async def tasks(self, count: int) -> None:
        tasks = [asyncio.create_task(self.task()) for _ in range(count)]
        await asyncio.sleep(0)
        for task in tasks[::7]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_crowd_of_both_kinds_loses_no_place_and_finds_none_twice(two):
    crowd = Crowd(two)
    with ThreadPoolExecutor(16) as threads:
        done = [threads.submit(crowd.thread, number) for number in range(500)]
        asyncio.run(crowd.tasks(500))
        for future in done:
            future.result()
    assert (crowd.most, crowd.inside) == (2, 0)
    assert two.counters() == Counters(requests=1000, waits=two.counters().waits)


def test_the_settings_limit_the_named_ones(settings):
    settings.POOL_CONNECTIONS = dict.fromkeys(NAMES, 7)
    places.cache_clear()
    assert {name: places(name).limit for name in NAMES} == dict.fromkeys(NAMES, 7)
    places.cache_clear()
    with pytest.raises(KeyError):
        places("another")


def test_threads_that_are_the_first_to_ask_get_the_same(monkeypatch):
    together = threading.Barrier(4)

    class Slow(Places):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            together.wait(20)  # all of them make one
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(module, "Places", Slow)
    monkeypatch.setattr(places, "cache", {})
    with ThreadPoolExecutor(together.parties) as threads:
        made = list(threads.map(places, ["external"] * together.parties))
    assert len(set(made)) == 1
