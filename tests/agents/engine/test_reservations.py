"""Tasks that a process waits for, tasks that go elsewhere after a failure, and requests that share one task."""

import subprocess
import sys
from typing import Any

import pytest

from agents.engine import admission, caretaker, operations
from agents.engine.owners import this_process
from agents.engine.submit import prepare
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, TaskEvent
from core.ops.processes import ProcessIdentity
from tests.agents.engine.factories import make_agent, make_node, open_breaker, succeed, take
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

US = this_process()


def submit(agent: Agent, **asked: Any) -> admission.Submitted:
    change = prepare(agent=agent, owner=agent.owner, input={"message": "hi"}, **asked)
    (submitted,) = apply(admission.submit, [change])
    assert isinstance(submitted, admission.Submitted)
    return submitted


def row(submitted: admission.Submitted) -> AgentTask:
    return AgentTask.objects.get(pk=submitted.task_id)


@pytest.fixture
def dead_process() -> str:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = str(ProcessIdentity.of(child.pid))
    child.communicate()
    return identity


def test_a_reserved_task_is_its_process_s_from_birth_where_a_slot_is_free():
    make_node()
    submitted = submit(make_agent(), reserved_for=US)
    assert submitted.granted is not None
    assert (submitted.granted.fence, submitted.granted.runner) == (1, US)
    assert (row(submitted).runner, row(submitted).status) == (US, "running")
    assert apply(operations.take, [operations.Take(submitted.task_id, "host/1/1")]) == [None]
    check(Snapshot.read())


def test_a_reserved_task_that_waited_goes_to_its_process_and_not_to_a_taker():
    make_node(slots=1)
    agent = make_agent()
    first, second = submit(agent), submit(agent, reserved_for=US)
    assert second.granted is None
    ticket = take(row(first))
    end = operations.Finish(
        ticket.task_id, ticket.fence, AgentTask.Status.SUCCEEDED, fields={"result": ""}, next_for="host/1/1"
    )
    (finished,) = apply(operations.finish, [end])
    assert isinstance(finished, operations.Finished)
    assert finished.next_ticket is None
    assert (row(second).status, row(second).runner, row(second).fence) == ("running", US, 1)
    started = TaskEvent.objects.get(task=second.task_id, data__contains='"running"')
    assert '"run":1' in started.data
    check(Snapshot.read())


def test_tasks_reserved_for_the_dead_go_to_any_runner(dead_process, started_writer):
    make_node(slots=1)
    agent = make_agent()
    running = take(row(submit(agent)))
    waiting, ours = submit(agent, reserved_for=dead_process), submit(agent, reserved_for=US)
    caretaker.free_dead_runners()
    assert [row(waiting).reserved_for, row(ours).reserved_for] == ["", US]
    assert succeed(running, "")
    assert succeed(take(row(waiting)), "")


def test_a_reserved_run_that_dies_is_for_any_runner(dead_process, started_writer):
    make_node(slots=1)
    submitted = submit(make_agent(), reserved_for=dead_process)
    assert caretaker.free_dead_runners() == 1
    assert (row(submitted).reserved_for, row(submitted).runner) == ("", "")
    take(row(submitted))
    check(Snapshot.read())


def fail_over(submitted: admission.Submitted, *, keeps_reservation: bool = False) -> AgentTask:
    task = row(submitted)
    change = operations.SendBack(
        task.pk,
        task.fence,
        "connect-failed",
        "attempts",
        delay_seconds=60,
        avoids=task.node_id,
        keeps_reservation=keeps_reservation,
    )
    assert apply(operations.send_back, [change]) == [True]
    return row(submitted)


def test_after_a_failure_a_task_goes_to_another_node_at_once():
    make_node(), make_node()
    submitted = submit(make_agent(), reserved_for=US)
    first = row(submitted).node_id
    task = fail_over(submitted, keeps_reservation=True)
    assert (task.status, task.runner, task.fence) == ("running", US, 2)
    assert task.node_id != first
    check(Snapshot.read())


def test_it_waits_for_the_other_node_rather_than_going_back():
    make_node(slots=1)
    other = make_node(slots=1)
    agent = make_agent()
    running = {row(item).node_id: item for item in (submit(agent), submit(agent))}
    failed = next(item for node_id, item in running.items() if node_id != other.pk)
    task = fail_over(failed)
    assert (task.status, task.run_after) == ("queued", None)
    assert succeed(take(row(running[other.pk])), "")
    task.refresh_from_db()
    assert (task.status, task.node_id) == ("running", other.pk)


def test_where_there_is_no_other_node_it_waits_its_time_and_goes_back():
    make_node()
    task = fail_over(submit(make_agent(), reserved_for=US))
    assert (task.status, task.reserved_for) == ("queued", "")
    assert task.run_after is not None


def test_a_node_whose_breaker_is_open_is_no_other_node():
    make_node()
    open_breaker(make_node())
    task = fail_over(submit(make_agent()))
    assert task.status == "queued"
    assert task.run_after is not None


def test_equal_requests_share_the_task_that_is_being_answered():
    make_node(slots=1)
    agent = make_agent()
    changes = [
        prepare(agent=agent, owner=agent.owner, input={"message": "hi"}, request_key=key)
        for key in ("a", "a", "b", "")
    ]
    first, second, other, alone = apply(admission.submit, changes)
    assert isinstance(first, admission.Submitted)
    assert second == admission.Submitted(first.task_id, shares=True)
    assert AgentTask.objects.count() == 3
    again = submit(agent, request_key="a")
    assert (again.task_id, again.shares) == (first.task_id, True)
    assert not any(item.shares for item in (other, alone) if isinstance(item, admission.Submitted))

    assert succeed(take(row(first)), "")
    assert not submit(agent, request_key="a").shares
    check(Snapshot.read())


def test_what_every_node_failed_at_once_is_tried_no_more():
    """A request that hangs each node goes round once."""
    for _ in range(3):
        make_node()
    submitted = submit(make_agent(), reserved_for=US)
    tried = []
    while (task := row(submitted)).status == "running":
        tried.append(task.node_id)
        end = operations.Finish(task.pk, task.fence, AgentTask.Status.FAILED, error_code="first-byte-timeout")
        change = operations.SendBack(
            task.pk, task.fence, "it hung", "attempts", avoids=task.node_id, or_end=end, keeps_reservation=True
        )
        assert apply(operations.send_back, [change]) == [True]
    assert (task.status, task.error_code, len(tried)) == ("failed", "first-byte-timeout", 3)
    check(Snapshot.read())
