from math import isclose

import pytest

from agents.engine.submit import cancel
from agents.models import AgentTask, Node
from tests.agents.engine.factories import append, make_agent, make_node, send_back, submit_task, succeed, take

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def receipt_of(task: AgentTask) -> dict:
    task.refresh_from_db()
    receipt = task.receipt
    wall = (task.finished_at - task.created_at).total_seconds()
    assert isclose(sum(phase["seconds"] for phase in receipt["phases"]), wall, abs_tol=1e-6)
    assert isclose(receipt["wall_seconds"], wall)
    return {phase["name"]: phase["seconds"] for phase in receipt["phases"]}


def test_the_phases_of_an_answer_tell_where_the_time_went(fake_clock):
    make_node(is_draining=True)
    task = submit_task(make_agent())
    fake_clock.advance(4)
    Node.objects.update(is_draining=False)
    submit_task(make_agent())  # grants both, in turn
    fake_clock.advance(0.5)
    ticket = take(task)
    fake_clock.advance(2)
    assert append(ticket, "an answer")
    fake_clock.advance(8)
    assert succeed(ticket, "an answer")
    assert receipt_of(task) == {
        "queued": 4,
        "waiting for a runner": 0.5,
        "waiting for the first token": 2,
        "answering": 8,
    }


def test_a_second_try_counts_what_came_before_as_waiting(fake_clock):
    make_node()
    task = submit_task(make_agent())
    ticket = take(task)
    fake_clock.advance(3)
    assert append(ticket, "half")
    assert send_back(ticket, counts="attempts")
    ticket = take(task)
    fake_clock.advance(1)
    assert succeed(ticket, "whole", tail="whole")
    phases = receipt_of(task)
    assert phases["queued and earlier tries"] == 3
    assert phases["waiting for the first token"] == 1
    assert task.receipt["attempts"] == 2


def test_a_task_cancelled_between_two_tries_was_not_answering(fake_clock):
    make_node()
    task = submit_task(make_agent())
    ticket = take(task)
    assert append(ticket, "half")
    assert send_back(ticket, counts="attempts", delay_seconds=60)
    fake_clock.advance(7)
    assert cancel(task.pk)
    assert receipt_of(task) == {"queued and earlier tries": 7}


def test_clocks_that_differ_by_milliseconds_make_no_negative_phase(fake_clock):
    """Each process reads the time by itself: a runner may take a task before it was granted, by its clock."""
    make_node()
    task = submit_task(make_agent())
    fake_clock.advance(-0.004)
    ticket = take(task)
    fake_clock.advance(2.004)
    assert succeed(ticket, "late", tail="late")
    phases = receipt_of(task)
    assert min(phases.values()) == phases["waiting for a runner"] == 0
    assert phases["waiting for the first token"] == 2
