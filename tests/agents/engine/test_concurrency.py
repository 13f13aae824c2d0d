"""Many threads, the real writer, no order at all: what the machine cannot interleave, the system does."""

import os
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from agents.engine import caretaker, hints, operations
from agents.engine.grant import Ticket
from agents.engine.owners import this_process
from agents.engine.process import writer
from agents.engine.submit import cancel, submit
from agents.models import Agent, AgentTask
from core.exceptions import IdempotencyConflict
from core.ops import clock
from tests.agents.engine.factories import make_agent, make_key, make_node, submit_task
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

Status = AgentTask.Status
SEED = int(os.environ.get("SUTAZAI_TEST_SEED") or random.randrange(10**9))


def in_threads(count: int, work: Callable[[int], None]) -> None:
    def run(number: int) -> None:
        try:
            work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def test_one_key_makes_one_task_however_many_ask_at_once(started_writer):
    make_node(slots=2)
    agent = make_agent()
    key = make_key("the key")
    together = threading.Barrier(8)
    answers: list[tuple[uuid.UUID, bool]] = []
    conflicts: list[int] = []

    def ask(number: int) -> None:
        together.wait(20)
        mine = key if number < 6 else make_key("the key", "another body")
        try:
            accepted = submit(agent=agent, owner=agent.owner, input={"message": "hi"}, idempotency_key=mine)
        except IdempotencyConflict:
            conflicts.append(number)
        else:
            answers.append((accepted.task_id, accepted.is_replay))

    in_threads(8, ask)
    (task,) = AgentTask.objects.all()
    assert {task_id for task_id, _ in answers} == {task.pk}
    assert [is_replay for _, is_replay in answers].count(False) == 1
    assert len(answers) + len(conflicts) == 8
    assert conflicts in ([6, 7], [7, 6]) or len(answers) == 2


def test_one_key_makes_one_task_without_a_writer_between(fake_clock):
    """As two processes would: each in a transaction of its own."""
    make_node(slots=2)
    agent = make_agent()
    together = threading.Barrier(4)
    ids: list[uuid.UUID] = []

    def ask(number: int) -> None:
        together.wait(20)
        ids.append(submit_task(agent, idempotency_key=make_key("the key")).pk)

    in_threads(4, ask)
    (task,) = AgentTask.objects.all()
    assert ids == [task.pk] * 4


class Crowd:
    """Threads that submit, run and cancel, and a broker that delivers every message twice."""

    def __init__(self, agent: Agent, count: int) -> None:
        self.agent = agent
        self.count = count
        self.messages: queue.Queue[uuid.UUID] = queue.Queue()  # a SimpleQueue may forget its timeout
        self.accepted: list[uuid.UUID] = []
        self.tickets: list[tuple[uuid.UUID, int]] = []
        self.succeeded: list[uuid.UUID] = []
        self.roles = [self.ask, self.ask, self.run, self.run, self.run, self.run]
        self.deadline = time.monotonic() + 60 + count

    def publish(self, task_ids: Sequence[uuid.UUID]) -> None:
        for task_id in task_ids:
            self.messages.put(task_id)
            self.messages.put(task_id)

    def work(self, number: int) -> None:
        self.roles[number](random.Random(SEED + number))

    def ask(self, chance: random.Random) -> None:
        for _ in range(self.count):
            self.accepted.append(submit_task(self.agent, starts_session=chance.random() < 0.5).pk)
            if chance.random() < 0.2:
                cancel(chance.choice(self.accepted))

    def run(self, chance: random.Random) -> None:
        while len(self.accepted) < 2 * self.count or AgentTask.objects.unfinished().exists():
            assert time.monotonic() < self.deadline, "it does not end"
            try:
                task_id = self.messages.get(timeout=0.05)
            except queue.Empty:
                caretaker.relay()
                continue
            ticket = writer.call(operations.take, operations.Take(task_id, this_process()))
            while ticket is not None:
                self.tickets.append((ticket.task_id, ticket.fence))
                ticket = self.answer(ticket, chance)

    def answer(self, ticket: Ticket, chance: random.Random) -> Ticket | None:
        task_id, fence = ticket.task_id, ticket.fence
        text = f"answer to {task_id}"
        cut = chance.randrange(len(text))
        if not writer.call(
            operations.append,
            operations.Append(task_id, fence, clock.now(), lambda: {"text": text[:cut]} if cut else {}),
        ):
            return None
        if chance.random() < 0.1:
            again = operations.SendBack(task_id, fence, "again", "attempts", delay_seconds=0.01)
            writer.call(operations.send_back, again)
            return None
        fields = {"result": text}
        end = operations.Finish(
            task_id, fence, Status.SUCCEEDED, tail={"text": text[cut:]}, fields=fields, next_for=this_process()
        )
        finished = writer.call(operations.finish, end)
        if finished.is_owner:
            self.succeeded.append(task_id)
        return finished.next_ticket


def test_nothing_is_lost_or_doubled_when_all_happen_at_once(started_writer, effort):
    print(f"SUTAZAI_TEST_SEED={SEED}")
    make_node(slots=3)
    make_node(slots=2)
    crowd = Crowd(make_agent(), effort(60))
    hints.granted_listeners.append(crowd.publish)
    try:
        in_threads(len(crowd.roles), crowd.work)
    finally:
        hints.granted_listeners.remove(crowd.publish)

    snapshot = Snapshot.read()
    check(snapshot)
    assert snapshot.tasks.keys() == set(crowd.accepted)
    assert len(crowd.tickets) == len(set(crowd.tickets)), "a right to run was given twice"
    ended = {task_id: row["status"] for task_id, row in snapshot.tasks.items()}
    assert set(ended.values()) <= {Status.SUCCEEDED, Status.CANCELLED}
    assert sorted(crowd.succeeded) == sorted(key for key, status in ended.items() if status == Status.SUCCEEDED)
    assert all(snapshot.tasks[task_id]["result"] == f"answer to {task_id}" for task_id in crowd.succeeded)
