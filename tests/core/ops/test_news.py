import asyncio

import pytest

from core.ops.news import News


def test_whoever_waits_is_woken_again_and_again():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = News(loop)
        for _ in range(3):
            loop.call_soon(news.tell)
            await news.wait()

    asyncio.run(work())


def test_a_wait_ends_with_its_limit_and_not_with_that_of_an_earlier_one():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = News(loop)
        loop.call_soon(news.tell)
        await news.wait(loop.time() + 0.02)
        until = loop.time() + 0.1
        with pytest.raises(TimeoutError):
            await news.wait(until)
        assert loop.time() >= until

    asyncio.run(work())


def test_a_limit_that_comes_before_that_of_an_earlier_wait_holds():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = News(loop)
        loop.call_soon(news.tell)
        await news.wait(loop.time() + 3600)
        with pytest.raises(TimeoutError):
            await news.wait(loop.time() + 0.02)

    asyncio.run(asyncio.wait_for(work(), 10))


def test_a_wait_without_a_limit_outlasts_the_alarm_of_an_earlier_one():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = News(loop)
        loop.call_soon(news.tell)
        await news.wait(loop.time() + 0.02)
        loop.call_later(0.1, news.tell)
        await news.wait()

    asyncio.run(work())


def test_what_nobody_waits_for_is_told_in_vain():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = News(loop)
        news.tell()
        with pytest.raises(TimeoutError):
            await news.wait(loop.time() + 0.02)

    asyncio.run(work())
