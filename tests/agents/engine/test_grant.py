import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

import agents.engine.submit as submit_module
from agents.engine import admission, operations
from agents.engine.grant import grant
from agents.engine.queue import standing
from agents.engine.submit import cancel, submit
from agents.engine.writer import apply
from agents.models import AgentTask, Node, NodeModel
from core.net import breakers
from tests.agents.engine.factories import (
    MODEL,
    make_agent,
    make_node,
    make_user,
    open_breaker,
    send_back,
    submit_task,
    succeed,
    take,
)
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def running() -> list[AgentTask]:
    return list(AgentTask.objects.running().order_by("pk"))


def test_the_first_to_come_goes_first():
    node = make_node(slots=1)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(4)]
    order = []
    while running():
        (task,) = running()
        order.append(task)
        assert succeed(take(task), "")
    assert order == tasks
    assert {task.node_id for task in order} == {node.pk}


def test_slots_bound_what_runs_on_each_node_and_model():
    make_node(MODEL, "other:latest", slots=2)
    make_node(MODEL, slots=1)
    for model in (MODEL, "other:latest"):
        agent = make_agent(model=model)
        for _ in range(5):
            submit_task(agent)
    counts = [
        AgentTask.objects.running().filter(node_model=place).count()
        for place in NodeModel.objects.order_by("node_id", "name")
    ]
    assert counts == [2, 2, 1]


def test_a_loaded_model_is_preferred_and_a_node_that_is_down_is_left_alone():
    down = make_node(slots=1)
    open_breaker(down)
    cold, warm = make_node(slots=1), make_node(slots=1)
    NodeModel.objects.filter(node__in=[down, warm]).update(is_loaded=True)
    agent = make_agent()
    assert [submit_task(agent).node_id for _ in range(3)] == [warm.pk, cold.pk, None]
    assert AgentTask.objects.queued().count() == 1  # it waits for the living, and does not fail on the dead


def test_tasks_wait_while_every_node_that_has_the_model_is_down_and_no_task_is_the_probe(fake_clock):
    node = make_node(slots=1)
    agent = make_agent()
    first, second = submit_task(agent), submit_task(agent)
    open_breaker(node)
    assert succeed(take(first), "")
    fake_clock.advance(1)
    probe = breakers.take_probe(node.breaker_id)  # half-open
    apply(operations.grant_waiting, [MODEL])
    assert running() == []
    probe.succeeded()
    apply(operations.grant_waiting, [MODEL])
    assert running() == [second]


def test_what_an_operator_holds_counts_more_than_what_was_found():
    failing, well = make_node(slots=1), make_node(slots=1)
    open_breaker(failing)
    operator, agent = make_user(), make_agent()
    breakers.hold(failing.breaker_id, breakers.Forced.CLOSED, by=operator, reason="the probe lies")
    breakers.hold(well.breaker_id, breakers.Forced.OPEN, by=operator, reason="new disks")
    assert [submit_task(agent).node_id for _ in range(2)] == [failing.pk, None]


def test_a_node_whose_queue_was_full_is_the_last_choice_for_a_while(fake_clock):
    full, other = make_node(slots=2), make_node(slots=1)
    NodeModel.objects.filter(node=full).update(is_loaded=True)
    Node.objects.filter(pk=full.pk).update(saturated_until=fake_clock.moment + timedelta(seconds=30))
    agent = make_agent()
    tasks = [submit_task(agent), submit_task(agent)]
    assert [task.node_id for task in tasks] == [other.pk, full.pk]
    for task in tasks:
        assert succeed(take(task), "")
    fake_clock.advance(30)
    assert submit_task(agent).node_id == full.pk


def test_a_draining_node_starts_nothing():
    node = make_node(slots=1, is_draining=True)
    task = submit_task(make_agent())
    assert task.status == AgentTask.Status.QUEUED
    Node.objects.filter(pk=node.pk).update(is_draining=False)
    apply(operations.grant_waiting, [MODEL])
    assert running() == [task]


def test_models_do_not_wait_for_each_other():
    make_node(MODEL, "other:latest", slots=1)
    busy, other = make_agent(), make_agent(model="other:latest")
    submit_task(busy)
    waiting = submit_task(busy)
    assert submit_task(other).status == AgentTask.Status.RUNNING
    assert waiting.status == AgentTask.Status.QUEUED


def test_a_retry_waits_for_its_time_and_holds_nobody_up(fake_clock):
    make_node(slots=1)
    agent = make_agent()
    first, second = submit_task(agent), submit_task(agent)
    assert send_back(take(first), counts="attempts", delay_seconds=10)
    assert running() == [second]
    assert succeed(take(second), "")
    assert running() == []
    fake_clock.advance(10)
    apply(operations.grant_waiting, [MODEL])
    assert running() == [first]


def test_the_thread_that_ends_a_task_takes_the_next_one():
    make_node(slots=1)
    agent = make_agent()
    first, second = submit_task(agent), submit_task(agent)
    ticket = take(first)
    end = operations.Finish(
        ticket.task_id, ticket.fence, AgentTask.Status.SUCCEEDED, fields={"result": ""}, next_for="host/7/7"
    )
    (finished,) = apply(operations.finish, [end])
    assert finished.next_ticket.task_id == second.pk
    second.refresh_from_db()
    assert (second.status, second.runner, second.fence) == ("running", "host/7/7", finished.next_ticket.fence)
    assert apply(operations.take, [operations.Take(second.pk, "host/8/8")]) == [None]


def test_a_cancelled_task_frees_its_slot_at_once():
    make_node(slots=1)
    agent = make_agent()
    first, second = submit_task(agent), submit_task(agent)
    assert cancel(first.pk)
    assert running() == [second]


def test_position_counts_those_who_came_before():
    make_node(slots=1)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(3)]
    standings = [standing(task) for task in tasks]
    assert [found and found.position for found in standings] == [None, 1, 2]


def test_a_task_past_its_deadline_is_not_started(fake_clock):
    make_node(slots=1, is_draining=True)
    task = submit_task(make_agent(deadline_seconds=5))
    fake_clock.advance(5)
    Node.objects.update(is_draining=False)
    apply(operations.grant_waiting, [MODEL])
    assert AgentTask.objects.get(pk=task.pk).status == AgentTask.Status.QUEUED


@pytest.mark.django_db(transaction=True)
def test_two_who_grant_at_the_same_moment_never_exceed_the_slots():
    make_node(slots=3)
    make_node(slots=2)
    agent = make_agent()
    Node.objects.update(is_draining=True)
    for _ in range(12):
        submit_task(agent)
    Node.objects.update(is_draining=False)
    together = threading.Barrier(4)

    def grant_in_a_thread(_: int) -> None:
        try:
            together.wait(20)
            apply(operations.grant_waiting, [MODEL])
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(grant_in_a_thread, range(4)))
    assert len(running()) == 5
    check(Snapshot.read())
    assert all(task.fence == 1 and task.event_count == 2 for task in running())


@pytest.mark.django_db(transaction=True)
def test_a_batch_of_submissions_fills_each_node_and_no_more(monkeypatch):
    make_node(slots=2)
    make_node(slots=1)
    agent = make_agent()
    batch = Batch()
    monkeypatch.setattr(submit_module, "writer", batch)
    for _ in range(5):
        submit(agent=agent, owner=agent.owner, input={"message": "hello"})
    apply(admission.submit, batch.submissions)
    check(Snapshot.read())
    statuses = AgentTask.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["running"] * 3 + ["queued"] * 2


class Batch:
    """Stands in for the writer, and gathers."""

    def __init__(self) -> None:
        self.submissions: list[admission.Submission] = []

    def call(self, _: object, submission: admission.Submission, **_limits: float) -> admission.Submitted:
        self.submissions.append(submission)
        return admission.Submitted(submission.task.pk, is_replay=False)


def test_granting_nothing_is_harmless(fake_clock):
    assert grant(set(), fake_clock.now() + timedelta(days=1)) == []
