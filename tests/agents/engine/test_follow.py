import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from agents.engine import follow, hints, queue, wakeups
from agents.engine.follow import Reader, read_events, reader
from agents.engine.grant import Ticket
from agents.engine.queue import Standing
from agents.engine.submit import cancel
from agents.models import AgentTask, NodeModel
from core.ops import clock
from tests.agents.engine.factories import append, make_agent, make_node, submit_task, succeed, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def no_chance_look(monkeypatch: pytest.MonkeyPatch, wait_until) -> Iterator[None]:
    """The look that the reader takes now and then must not be what delivers."""
    monkeypatch.setattr(follow, "LOOK_SECONDS", 3600)
    yield
    wait_until(lambda: not reader._followers)


@pytest.fixture
def task() -> AgentTask:
    make_node(slots=4)
    return submit_task(make_agent())


def answer(ticket: Ticket, words: list[str]) -> None:
    for word in words:
        assert append(ticket, word)
    assert succeed(ticket, "".join(words))


async def numbers_of(task_id: uuid.UUID, after: int) -> list[int]:
    async with asyncio.timeout(20):
        return [event.number async for events in reader.follow(task_id, after=after) for event in events]


def test_a_finished_task_is_told_from_any_number_on(task):
    answer(take(task), ["one ", "two ", "three"])  # queued, running, three pieces, done

    async def follow_all() -> list[list[int]]:
        return [await numbers_of(task.pk, after) for after in range(8)]

    assert asyncio.run(follow_all()) == [list(range(after + 1, 7)) for after in range(8)]


def test_a_task_that_does_not_exist_has_no_events():
    assert asyncio.run(numbers_of(uuid.uuid4(), 0)) == []


def test_every_follower_gets_every_event_once_while_it_happens(task):
    ticket = take(task)
    words = [f"word{number} " for number in range(60)]

    async def follow_live() -> list[list[int]]:
        writing = threading.Thread(target=in_a_thread, args=(lambda: answer(ticket, words),))
        followers = [asyncio.create_task(numbers_of(task.pk, after)) for after in (0, 0, 1, 2, 30)]
        await asyncio.sleep(0)
        writing.start()
        numbers = await asyncio.gather(*followers)
        await asyncio.to_thread(writing.join)
        return numbers

    last = 2 + len(words) + 1
    assert asyncio.run(follow_live()) == [list(range(after + 1, last + 1)) for after in (0, 0, 1, 2, 30)]


def test_a_follower_far_behind_is_not_kept_waiting(task, monkeypatch):
    monkeypatch.setattr(follow, "ROWS_PER_READ", 10)
    answer(take(task), ["word "] * 45)
    assert asyncio.run(numbers_of(task.pk, 0)) == list(range(1, 49))


def test_the_end_from_outside_reaches_who_waits(task):
    async def follow_and_cancel() -> list[int]:
        following = asyncio.create_task(numbers_of(task.pk, 2))
        await asyncio.sleep(0)
        await asyncio.to_thread(in_a_thread, lambda: cancel(task.pk))
        return await following

    assert asyncio.run(follow_and_cancel()) == [3]


def test_a_follower_who_leaves_is_forgotten(task):
    async def look_and_leave() -> None:
        stream = reader.follow(task.pk)
        await anext(stream)
        await stream.aclose()

    asyncio.run(look_and_leave())
    assert task.pk not in reader._followers


def test_events_that_commit_out_of_order_are_not_missed(task):
    """An older transaction that commits late: a cursor over all events would have passed it by."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    slow, quick = take(task), take(submit_task(make_agent()))
    has_written, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with transaction.atomic():
            append(slow, "slow")
            has_written.set()
            assert may_commit.wait(20)

    writing = threading.Thread(target=in_a_thread, args=(write_slowly,))
    writing.start()
    assert has_written.wait(20)
    append(quick, "quick")
    after = {slow.task_id: 2, quick.task_id: 2}
    seen = read_events(after)
    assert {task_id: [event.number for event in events] for task_id, events in seen.items()} == {quick.task_id: [3]}
    after[quick.task_id] = 3
    may_commit.set()
    writing.join()
    seen = read_events(after)
    assert {task_id: [event.number for event in events] for task_id, events in seen.items()} == {slow.task_id: [3]}


def in_a_thread(work) -> None:
    try:
        work()
    finally:
        connection.close()


def test_the_look_now_and_then_comes_however_often_others_are_woken(task, monkeypatch):
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(wakeups, "listen", lambda *_: None)
    lonely = Reader()
    lonely.start()
    hints.changed_listeners.remove(lonely.wake)  # nobody tells it of the task
    other = submit_task(make_agent())

    async def follow_both() -> list[int]:
        noise = asyncio.create_task(keep_waking())
        bystander = asyncio.create_task(anext(lonely.follow(other.pk, after=2)))
        numbers: list[int] = []
        async with asyncio.timeout(20):
            async for events in lonely.follow(task.pk):
                if not numbers:
                    await asyncio.to_thread(answer_and_close)
                numbers += [event.number for event in events]
        noise.cancel()
        bystander.cancel()
        return numbers

    async def keep_waking() -> None:
        while True:
            lonely.wake([other.pk])
            await asyncio.sleep(0.005)

    def answer_and_close() -> None:
        answer(take(task), ["one"])
        connection.close()

    assert asyncio.run(follow_both()) == [1, 2, 3, 4]


# Where a waiting task stands -----------------------------------------------------------------------------------------


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(follow, "POSITION_SECONDS", 0.04)
    monkeypatch.setattr(reader, "_look_at", 0.0)  # earlier tests put it off for an hour


async def follow_while_it_moves(task_id: uuid.UUID, moves: list[Callable[[], object]]) -> list[dict[str, Any]]:
    """Follow a task to its end; each time that it tells its place, the next of these happens."""
    told = []
    async with asyncio.timeout(20):
        async for events in reader.follow(task_id, tells_position=True):
            for event in events:
                data = json.loads(event.data)
                if "position" in data:
                    assert (event.number, event.type, data["status"]) == (0, "state", "queued")
                    told.append(data)
                    await asyncio.to_thread(in_a_thread, moves.pop(0))
    return told


def test_who_waits_is_told_where_the_task_stands_and_when_that_changes(quick_looks):
    make_node(slots=1)
    agent = make_agent()
    first, second, third = (submit_task(agent) for _ in range(3))
    NodeModel.objects.update(service_seconds=4)

    def end_all() -> None:
        assert succeed(take(second), "")
        assert succeed(take(third), "")

    moves = [lambda: succeed(take(first), ""), end_all]
    told = asyncio.run(follow_while_it_moves(third.pk, moves))
    assert [(data["position"], data["expected_wait_seconds"]) for data in told] == [(2, 8.0), (1, 4.0)]
    assert [event.number for event in read_events({third.pk: 0})[third.pk]] == [1, 2, 3], "no row tells of it"


def test_a_place_that_has_not_changed_is_not_told_again(quick_looks, monkeypatch):
    looks = []
    monkeypatch.setattr(follow, "standings", lambda models: looks.append(models) or queue.standings(models))
    make_node(slots=1)
    agent = make_agent()
    submit_task(agent)
    waiting = submit_task(agent)

    def wait_and_cancel() -> None:
        deadline = time.monotonic() + 20
        while len(looks) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        cancel(waiting.pk)

    assert len(asyncio.run(follow_while_it_moves(waiting.pk, [wait_and_cancel]))) == 1
    assert len(looks) >= 4


def test_a_place_is_told_at_most_every_so_often(quick_looks, monkeypatch):
    monkeypatch.setattr(follow, "POSITION_SECONDS", 3600)
    make_node(slots=1)
    agent = make_agent()
    first, second, third = (submit_task(agent) for _ in range(3))

    def end_all() -> None:
        for task in (first, second, third):
            assert succeed(take(task), "")

    told = asyncio.run(follow_while_it_moves(third.pk, [end_all]))
    assert [data["position"] for data in told] == [2]


def test_far_back_in_the_queue_small_steps_are_no_news():
    follower = follow._Follower(uuid.uuid4(), 0, asyncio.new_event_loop(), tells_position=True)
    told = []
    for position in (100, 95, 91, 90, 82, 81, 9, 8):
        before = follower.position
        follower.see_position(Standing(position, AgentTask.Priority.NORMAL, clock.now(), None))
        told += [position] if follower.position != before else []
    follower.loop.close()
    assert told == [100, 90, 81, 9, 8]


def test_nobody_is_told_who_did_not_ask(quick_looks):
    make_node(slots=1)
    agent = make_agent()
    running, waiting = submit_task(agent), submit_task(agent)

    def end_both() -> None:
        assert succeed(take(running), "")
        assert succeed(take(waiting), "")

    async def follow_both() -> tuple[list[int], list[dict[str, Any]]]:
        return await asyncio.gather(numbers_of(waiting.pk, 0), follow_while_it_moves(waiting.pk, [end_both]))

    numbers, told = asyncio.run(follow_both())
    assert (numbers, len(told)) == ([1, 2, 3], 1)
