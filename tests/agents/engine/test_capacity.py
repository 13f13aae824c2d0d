"""What is measured of the tasks of late, and what plan it makes."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.engine import capacity, operations
from agents.engine.capacity import Assumed, Measured, Place
from agents.engine.queueing import Service
from agents.engine.writer import apply
from agents.models import Agent, AgentTask
from core.ops import clock
from tests.agents.engine.factories import MODEL, make_agent, make_node, open_breaker, submit_task, succeed, take

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def run(agent: Agent, seconds: float, fake_clock) -> None:
    ticket = take(submit_task(agent))
    fake_clock.advance(seconds)
    assert succeed(ticket, "")


def measured(*, hours: float = 1, model: str = MODEL) -> Measured:
    now = clock.now()
    return capacity.measure(now - timedelta(hours=hours), now, model=model)[0]


@pytest.fixture(autouse=True)
def _todays_clock(fake_clock):
    """Keys of tasks tell when they were made, by the machine's clock."""
    fake_clock.moment = datetime.now(UTC)


def test_it_measures_how_long_slots_are_held(fake_clock):
    make_node(slots=2)
    agent = make_agent()
    for seconds in (10, 20, 30):
        run(agent, seconds, fake_clock)
    known = measured()
    assert known.tasks == 3
    assert known.service.mean == pytest.approx(20)
    assert known.service.deviation == pytest.approx(8.165, abs=0.001)
    assert (known.slots, known.per_second) == (2, pytest.approx(3 / 3600))


def test_tasks_that_failed_held_a_slot_too(fake_clock):
    make_node(slots=1)
    ticket = take(submit_task(make_agent()))
    fake_clock.advance(100)
    failed = operations.Finish(
        ticket.task_id, ticket.fence, AgentTask.Status.FAILED, error_code="no-luck", error_detail="It failed."
    )
    apply(operations.finish, [failed])
    assert measured().service == Service(100, 0)


def test_the_busiest_minutes_in_a_row_count(fake_clock):
    make_node(slots=10)
    agent = make_agent()
    fake_clock.moment = fake_clock.moment.replace(second=0, microsecond=0)
    for minute, tasks in enumerate([1, 0, 4, 3, *[0] * 15, 2]):
        for _ in range(tasks):
            submit_task(agent)
        fake_clock.advance(60)
        assert minute < 20
    known = measured()
    assert known.busiest_per_second == pytest.approx(8 / 600)
    assert known.per_second == pytest.approx(10 / 3600)


def test_of_a_few_minutes_the_busiest_are_all_of_them():
    make_node(slots=1)
    agent = make_agent()
    for _ in range(3):
        submit_task(agent)
    known = measured(hours=0.05)
    assert known.busiest_per_second == known.per_second == pytest.approx(3 / 180)


def test_tasks_of_other_models_take_no_place_in_the_sample(fake_clock, monkeypatch):
    monkeypatch.setattr(capacity, "SAMPLE", 2)
    make_node("a:latest", slots=1)
    make_node("b:latest", slots=1)
    rare, frequent = make_agent(model="a:latest"), make_agent(model="b:latest")
    run(rare, 5, fake_clock)
    for _ in range(3):
        run(frequent, 1, fake_clock)
    assert measured(model="a:latest").service == Service(5, 0)


def test_who_waits_and_who_runs_has_come_and_says_nothing_of_how_long_tasks_take():
    make_node(slots=1)
    agent = make_agent()
    for _ in range(2):
        submit_task(agent)
    known = measured()
    assert (known.per_second, known.tasks, known.service) == (pytest.approx(2 / 3600), 0, None)
    assert capacity.plan(known, target_seconds=1, assumed=Assumed()) is None


def test_tasks_that_never_held_a_slot_needed_none(fake_clock):
    make_node(slots=1)
    agent = make_agent()
    run(agent, 5, fake_clock)
    answered_from_the_cache = AgentTask.objects.get()
    AgentTask.objects.update(granted_at=None, node=None, node_model=None)
    assert answered_from_the_cache.granted_at is not None
    assert (measured().per_second, measured().tasks) == (0, 0)


def test_what_was_long_ago_does_not_count(fake_clock):
    make_node(slots=1)
    run(make_agent(), 5, fake_clock)
    fake_clock.advance(3601)
    assert (measured().per_second, measured().service) == (0, None)


def test_nodes_that_take_no_tasks_have_no_slots():
    make_node(slots=4)
    make_node(slots=8, is_draining=True)
    open_breaker(make_node(slots=16))
    assert [place.slots for place in measured().places] == [4]


def test_all_models_that_are_there_or_were_asked_are_told_of(fake_clock):
    make_node("a:latest", slots=1)
    make_node("b:latest", slots=1)
    run(make_agent(model="a:latest"), 5, fake_clock)
    now = clock.now()
    found = capacity.measure(now - timedelta(hours=1), now)
    assert [(known.model, known.tasks) for known in found] == [("a:latest", 1), ("b:latest", 0)]


def test_a_quick_node_does_more_of_the_tasks_when_all_are_busy():
    places = [Place("quick", 1, Service(1, 0)), Place("slow", 1, Service(3, 0)), Place("new", 1)]
    known = Measured(MODEL, 1, 1, tasks=9, service=Service(2, 1), places=places)
    together = known.service_here
    assert together.mean == pytest.approx(3 / (1 / 1 + 1 / 3 + 1 / 2))
    assert together.deviation > 0


KNOWN = Measured(
    MODEL,
    per_second=0.1,
    busiest_per_second=0.5,
    tasks=5,
    service=Service(2, 2),
    places=[Place("gpu1", 2, Service(2, 2))],
)


def test_the_plan_is_for_the_busiest_time():
    found = capacity.plan(KNOWN, target_seconds=0.5, assumed=Assumed())
    assert found.utilisation == pytest.approx(0.5)
    assert found.waiting.mean == pytest.approx(1 / 3 * 2 / (2 - 1))
    assert found.grows_per_second == 0
    assert found.slots_needed == 4


def test_what_is_assumed_takes_the_place_of_what_was_measured():
    assumed = Assumed(per_second=3, service=Service(1, 0), slots=2)
    found = capacity.plan(KNOWN, target_seconds=0.5, assumed=assumed)
    assert found.waiting is None
    assert (found.utilisation, found.grows_per_second, found.slots_needed) == (1.5, pytest.approx(1), 5)


def test_no_slots_at_all_are_too_few():
    nowhere = Measured(MODEL, 1, 1, tasks=5, service=Service(2, 2), places=())
    found = capacity.plan(nowhere, target_seconds=60, assumed=Assumed())
    assert (found.slots, found.waiting, found.slots_needed) == (0, None, 3)
    assert found.utilisation == float("inf")


def test_more_work_than_any_machines_could_do_is_a_slip_of_the_pen():
    with pytest.raises(capacity.TooMuch):
        capacity.plan(KNOWN, target_seconds=1, assumed=Assumed(per_second=1e5))
