"""Where the waiting stand, how long it takes, and what operators see of it."""

import pytest

from agents.engine import operations, queue, service_times
from agents.engine.errors import DoesNotWait, QueueFull
from agents.engine.queue import Standing, overview, standing, standings
from agents.engine.submit import prioritise
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, Node, NodeModel
from core.access.limits.refusals import TooManyTasks
from core.models import Allowance, uuid7
from tests.agents.engine.factories import (
    MODEL,
    make_agent,
    make_node,
    send_back,
    submit_task,
    succeed,
    take,
)
from tests.agents.engine.invariants import Snapshot, check
from tests.factories import make_team

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

Priority = AgentTask.Priority


def takes(seconds: float) -> None:
    """Have tasks hold their slots for so long, as was measured."""
    NodeModel.objects.update(service_seconds=seconds)


def position(task: AgentTask) -> int | None:
    found = standing(task)
    return found.position if found else None


def wait_of(task: AgentTask) -> float | None:
    found = standing(task)
    assert found is not None
    return found.expected_wait_seconds


def grants_to_the_end() -> list[AgentTask]:
    order = []
    while task := AgentTask.objects.running().first():
        order.append(task)
        succeed(take(task), "")
    return order[1:]


def test_positions_are_the_order_in_which_tasks_are_granted():
    make_node(slots=1)
    agents = [make_agent(), make_agent(), make_agent()]
    agents[2].owner.team = make_team()
    agents[2].owner.save()
    submit_task(agents[0])
    classes = [Priority.NORMAL, Priority.BACKGROUND, Priority.INTERACTIVE, Priority.NORMAL]
    tasks = [submit_task(agent, priority=priority) for priority in classes for agent in agents for _ in range(2)]
    positions = [position(task) for task in tasks]
    assert sorted(positions) == list(range(1, len(tasks) + 1))
    granted = grants_to_the_end()
    assert [granted.index(task) + 1 for task in tasks] == positions


def test_what_does_not_wait_stands_nowhere():
    make_node(slots=1)
    task = submit_task(make_agent())
    assert standing(task) is None
    succeed(take(task), "")
    task.refresh_from_db()
    assert standing(task) is None


def test_the_expected_wait_follows_from_the_position_and_the_pace():
    make_node(slots=2)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(5)]
    assert wait_of(tasks[2]) is None, "nobody has measured yet"
    takes(10)
    assert [wait_of(task) for task in tasks[2:]] == [5, 10, 15]
    make_node(slots=1)
    takes(10)
    Node.objects.update(is_draining=True)
    assert wait_of(tasks[2]) is None, "nothing takes tasks"
    Node.objects.update(is_draining=False)
    assert [wait_of(task) for task in tasks[2:]] == [0, 3.3, 6.7]  # the relay is about to grant the first


def test_a_retry_waits_for_its_time_at_least_and_comes_last(fake_clock):
    make_node(slots=1)
    agent = make_agent()
    first, _, third = (submit_task(agent) for _ in range(3))
    assert send_back(take(first), counts="attempts", delay_seconds=40)
    takes(5)
    first.refresh_from_db()
    assert [position(task) for task in (third, first)] == [1, 2]
    assert [wait_of(task) for task in (third, first)] == [5, 40]


def test_a_long_queue_is_put_in_order_once_a_second_for_all(monkeypatch):
    monkeypatch.setattr(queue, "LONG_QUEUE", 2)
    make_node(slots=1)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(4)]
    assert [position(task) for task in tasks[1:]] == [1, 2, 3]
    prioritise(tasks[3].pk, Priority.FRONT)
    assert position(tasks[3]) == 3, "it was put in order again"
    assert position(submit_task(agent)) == 4, "who is not in it waits for nobody"
    assert position(tasks[3]) == 1


def test_the_number_of_queries_does_not_grow_with_the_queue(django_assert_num_queries):
    make_node(slots=1, max_loaded_models=1)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(3)]
    standing(tasks[-1])  # limits are remembered
    with django_assert_num_queries(5):
        standing(tasks[-1])
    for _ in range(10):
        submit_task(make_agent())
    with django_assert_num_queries(5):
        standing(tasks[-1])


# Operators ----------------------------------------------------------------------------------------------------------


def test_the_overview_shows_every_model_and_its_places(fake_clock):
    make_node(MODEL, "idle:latest", slots=2, name="gpu")
    make_node(slots=1, name="old", is_draining=True)
    agent = make_agent()
    tasks = [submit_task(agent) for _ in range(4)]
    takes(6)
    fake_clock.advance(3)
    busy, idle = overview(tasks=1)
    assert (busy.model, busy.slots, busy.running, busy.waiting) == (MODEL, 2, 2, 2)
    assert busy.expected_wait_seconds == 9  # of a third
    assert [(state.place.node.name, state.running) for state in busy.places] == [("gpu", 2), ("old", 0)]
    assert [entry.task for entry in busy.tasks] == [tasks[2]]
    assert busy.tasks[0].standing == Standing(1, Priority.NORMAL, tasks[2].created_at, 3)
    assert (idle.model, idle.running, idle.waiting, idle.expected_wait_seconds) == ("idle:latest", 0, 0, 0)


def test_the_overview_shows_who_waits_for_a_model_that_is_nowhere():
    node = make_node(slots=1)
    agent = make_agent()
    submit_task(agent), submit_task(agent)
    NodeModel.objects.filter(node=node).update(is_available=False)
    (found,) = overview(tasks=10)
    assert (found.model, found.slots, found.waiting, found.places) == (MODEL, 0, 1, [])
    assert found.expected_wait_seconds is None


def test_the_overview_costs_the_same_for_many(django_assert_num_queries):
    def fill() -> None:
        for number in range(3):
            make_node(MODEL, f"{number}:latest", slots=1)
            agent = make_agent()
            agent.owner.team = make_team()
            agent.owner.save()
            for _ in range(3):
                submit_task(agent)

    fill()
    overview(tasks=10)
    with django_assert_num_queries(8):
        overview(tasks=10)
    fill()
    with django_assert_num_queries(8):
        overview(tasks=10)


def test_only_what_waits_can_be_moved():
    make_node(slots=1)
    agent = make_agent()
    running, waiting = submit_task(agent), submit_task(agent)
    prioritise(waiting.pk, Priority.BACKGROUND)
    waiting.refresh_from_db()
    assert waiting.priority == Priority.BACKGROUND
    for task_id in (running.pk, uuid7()):
        with pytest.raises(DoesNotWait):
            prioritise(task_id, Priority.FRONT)
    running.refresh_from_db()
    assert running.priority == Priority.NORMAL
    check(Snapshot.read())


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "after"), [(None, 5), (8.0, 4), (0.01, 1), (5000.0, 300)])
def test_a_full_queue_tells_when_a_tenth_of_it_will_have_gone(settings, seconds, after):
    settings.MAX_QUEUED_PER_MODEL = 10
    make_node(slots=2)
    agent = make_agent()
    for _ in range(12):
        submit_task(agent)
    takes(seconds)
    with pytest.raises(QueueFull) as refused:
        submit_task(agent)
    assert (refused.value.status, refused.value.retry_after_seconds) == (503, after)


def test_whoever_has_too_many_tasks_is_told_when_one_ends():
    make_node(slots=2)
    agent = make_agent()
    Allowance.objects.create(user=agent.owner, concurrent_tasks=1)
    submit_task(agent)
    takes(12)
    with pytest.raises(TooManyTasks) as refused:
        submit_task(agent)
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 6)


# How long tasks take -------------------------------------------------------------------------------------------------


def run(agent: Agent, seconds: float, fake_clock) -> None:
    ticket = take(submit_task(agent))
    fake_clock.advance(seconds)
    assert succeed(ticket, "")


def test_the_time_that_tasks_hold_their_slots_is_measured(fake_clock):
    place = make_node(slots=1).places.get()
    agent = make_agent()
    run(agent, 10, fake_clock)
    measured = service_times.measure(None, fake_clock.now())
    place.refresh_from_db()
    assert place.service_seconds == 10

    run(agent, 20, fake_clock)
    measured = service_times.measure(measured, fake_clock.now())
    place.refresh_from_db()
    assert place.service_seconds == pytest.approx(11)  # a tenth of the way

    for _ in range(30):
        run(agent, 20, fake_clock)
    assert service_times.measure(measured, fake_clock.now()) == fake_clock.now()
    place.refresh_from_db()
    assert place.service_seconds == pytest.approx(20, abs=0.5)
    assert service_times.measure(fake_clock.now(), fake_clock.now()) == fake_clock.now()
    place.refresh_from_db()
    assert place.service_seconds == pytest.approx(20, abs=0.5)


def test_tasks_that_did_not_answer_tell_nothing_of_how_long_answers_take(fake_clock):
    place = make_node(slots=1).places.get()
    ticket = take(submit_task(make_agent()))
    fake_clock.advance(100)
    failed = operations.Finish(
        ticket.task_id, ticket.fence, AgentTask.Status.FAILED, error_code="no-luck", error_detail="It failed."
    )
    apply(operations.finish, [failed])
    service_times.measure(None, fake_clock.now())
    place.refresh_from_db()
    assert place.service_seconds is None


# Which place -------------------------------------------------------------------------------------------------------


def test_of_places_with_the_model_loaded_the_one_with_the_least_wait_is_taken():
    slow, quick = make_node(slots=4), make_node(slots=4)
    NodeModel.objects.filter(node=slow).update(is_loaded=True, service_seconds=40)
    NodeModel.objects.filter(node=quick).update(is_loaded=True, service_seconds=10)
    agent = make_agent()
    taken = [submit_task(agent).node_id for _ in range(6)]
    assert (taken.count(slow.pk), taken.count(quick.pk)) == (2, 4)


def test_of_idle_nodes_the_heavier_is_taken_and_an_unmeasured_one_counts_as_usual():
    light, heavy = make_node(slots=2), make_node(slots=2, weight=2)
    NodeModel.objects.filter(node=light).update(service_seconds=10)
    agent = make_agent()
    assert [submit_task(agent).node_id for _ in range(4)] == [heavy.pk, light.pk, heavy.pk, light.pk]


def test_standings_of_models_without_a_queue_are_empty():
    make_node(slots=1)
    assert standings([MODEL]) == {MODEL: {}}
