"""Tasks that somebody waits for, once no node is left that could run them."""

import pytest

from agents.engine import awaited
from agents.engine.awaited import Awaited
from agents.models import AgentTask
from core.net import breakers
from tests.agents.engine.factories import make_agent, make_node, open_breaker, submit_task
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

OTHER = "other:latest"


def end_of(task: AgentTask) -> tuple[str, str]:
    task.refresh_from_db()
    return task.status, task.error_code


def look(*tasks: AgentTask) -> None:
    awaited.end_hopeless({task.pk: task.model for task in tasks})


def test_what_waits_is_ended_once_no_node_works_for_its_model():
    node = make_node()
    agent = make_agent()
    running, waiting, unwatched = (submit_task(agent) for _ in range(3))
    look(running, waiting)
    assert end_of(waiting) == ("queued", "")
    open_breaker(node)
    look(running, waiting)
    assert end_of(waiting) == ("cancelled", "model-unavailable")
    assert [end_of(running), end_of(unwatched)] == [("running", ""), ("queued", "")]
    check(Snapshot.read())


def test_what_another_node_can_run_waits_on():
    first, other = make_node(), make_node()
    agent = make_agent()
    *_, waiting = [submit_task(agent) for _ in range(3)]
    open_breaker(first)
    look(waiting)
    assert end_of(waiting) == ("queued", "")
    open_breaker(other)
    look(waiting)
    assert end_of(waiting) == ("cancelled", "model-unavailable")


def test_other_models_are_left_alone():
    open_breaker(make_node())
    make_node(OTHER)
    agent = make_agent(model=OTHER)
    _, waiting = submit_task(agent), submit_task(agent)
    look(waiting)
    assert end_of(waiting) == ("queued", "")


def test_a_node_that_is_back_in_time_gets_it_after_all():
    node = make_node()
    agent = make_agent()
    _, waiting = submit_task(agent), submit_task(agent)
    open_breaker(node)
    breakers.reset(node.breaker_id, by=agent.owner)
    look(waiting)
    assert end_of(waiting) == ("queued", "")


def test_it_is_looked_after_for_as_long_as_somebody_waits(started_writer, wait_until):
    node = make_node()
    agent = make_agent()
    _, waiting = submit_task(agent), submit_task(agent)
    awaited = Awaited()
    wait = awaited.begin(waiting.pk, waiting.model)
    open_breaker(node)
    wait_until(lambda: end_of(waiting) == ("cancelled", "model-unavailable"))
    awaited.end(wait)
