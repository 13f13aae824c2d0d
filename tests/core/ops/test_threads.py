import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import OperationalError

from core.ops import threads


class Fatal(BaseException):
    """Ends even such a thread, so that the test does."""


@pytest.mark.parametrize("error", [OperationalError("locked"), OSError("no descriptors"), LookupError("anything")])
def test_an_error_costs_a_round_and_not_the_thread(monkeypatch, caplog, error):
    monkeypatch.setattr(threads, "PAUSE_SECONDS", 0)
    rounds = iter([error, None, error, Fatal()])

    def work() -> None:
        outcome = next(rounds)
        if outcome is not None:
            raise outcome

    with pytest.raises(Fatal):
        threads._run("patient", work)
    assert [record.message.startswith("patient skips a round") for record in caplog.records] == [True, True]


@pytest.mark.parametrize("comes_first", [True, False])
def test_an_event_loop_gets_what_a_thread_made(comes_first):
    may_end = threading.Event()

    async def work() -> str:
        pending = helpers.submit(lambda: may_end.wait(10) and "made")
        if comes_first:
            may_end.set()
            pending.result(10)
        else:
            asyncio.get_running_loop().call_soon(may_end.set)
        return await threads.outcome(pending)

    with ThreadPoolExecutor(1) as helpers:
        assert asyncio.run(work()) == "made"


def test_an_event_loop_gets_what_a_thread_raised():
    async def work() -> None:
        pending: Future[None] = Future()
        pending.set_exception(LookupError("nothing there"))
        with pytest.raises(LookupError, match="nothing there"):
            await threads.outcome(pending)

    asyncio.run(work())


def test_whoever_is_cancelled_leaves_the_thread_to_its_work():
    pending: Future[str] = Future()

    async def work() -> None:
        waiting = asyncio.create_task(threads.outcome(pending))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())
    assert pending.set_running_or_notify_cancel()  # nobody cancelled it
    pending.set_result("late")  # and the loop that ended is not asked


def test_a_call_whose_waiter_is_cancelled_before_a_thread_is_free_is_not_made():
    helpers = threads.Helpers("test-helper", 1)
    may_end, made = threading.Event(), []

    async def work() -> None:
        busy = asyncio.create_task(helpers(may_end.wait, 10))
        waiting = asyncio.create_task(helpers(made.append, "made"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_end.set()
        await busy
        await helpers(made.append, "later")

    asyncio.run(work())
    assert made == ["later"]
