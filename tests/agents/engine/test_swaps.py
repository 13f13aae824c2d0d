"""Nodes that hold few models at a time: the order in which these are loaded."""

import pytest
from prometheus_client import REGISTRY

from agents.engine import execution, operations
from agents.engine.queue import overview
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, Node, NodeModel
from tests.agents.engine.factories import make_agent, make_node, submit_task, succeed, take
from tests.agents.engine.invariants import Snapshot, check
from tests.ollama_server.embedded import OllamaTestServer

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

A, B, C = "a:latest", "b:latest", "c:latest"


@pytest.fixture
def agents() -> dict[str, Agent]:
    """One for each model, with a deadline that no test comes to."""
    return {model: make_agent(model=model, deadline_seconds=3600) for model in (A, B, C)}


@pytest.fixture
def node() -> Node:
    """It has one model in memory at a time."""
    return make_node(A, B, C, slots=1, max_loaded_models=1)


def running() -> list[AgentTask]:
    return list(AgentTask.objects.running().order_by("granted_at", "pk"))


def end(task: AgentTask) -> None:
    assert succeed(take(task), "")


def models_in_order() -> str:
    """End what runs until nothing does; returns the models in the order of their runs."""
    order = []
    while tasks := running():
        order += [task.model[0] for task in tasks]
        for task in tasks:
            end(task)
    return " ".join(order)


def loaded() -> list[str]:
    return sorted(NodeModel.objects.filter(is_loaded=True).values_list("name", flat=True))


def swapped() -> float:
    return sum(REGISTRY.get_sample_value("sutazai_model_swaps_total", {"model": model}) or 0 for model in (A, B, C))


def test_equal_models_go_together(node, agents):
    for model in (A, B, A, A, C, A, B, C):
        submit_task(agents[model])
    assert models_in_order() == "a a a a b b c c"
    assert loaded() == [C]


@pytest.mark.django_db(transaction=True)
def test_a_server_with_room_for_one_model_loads_three_times_for_three_models(agents, started_writer, settings):
    settings.SWAP_WAIT_SECONDS = 30
    before = swapped()
    with OllamaTestServer(models=[A, B, C], max_loaded=1, load_seconds=0.05) as server:
        make_node(A, B, C, slots=1, max_loaded_models=1, url=server.url)
        tasks = [submit_task(agents[model], "[[t3]]") for model in (A, B, A, A, C, A, B, C)]
        execution.run(tasks[0].pk)
        assert server.stats()["loads"] == 3
    assert swapped() == before + 2
    check(Snapshot.read())
    waits = [phase["seconds"] for task in AgentTask.objects.all() for phase in task.receipt["phases"][:1]]
    assert len(waits) == 8
    assert max(waits) < 30


def test_without_the_rule_a_server_with_room_for_one_loads_as_often_as_models_change(agents):
    make_node(A, B, C, slots=1)
    for model in (A, B, A):
        submit_task(agents[model])
    assert [task.model for task in running()] == [A, B]  # at the same time: the node is taken for a large one


def test_whoever_has_waited_long_enough_has_the_other_model_make_room(node, agents, fake_clock, settings):
    settings.SWAP_WAIT_SECONDS = 30
    submit_task(agents[A])
    fake_clock.advance(1)
    waiting = submit_task(agents[B])
    for _ in range(3):  # demand for A never ends
        fake_clock.advance(9)
        newcomer = submit_task(agents[A])
        end(running()[0])
        assert running() == [newcomer]
    fake_clock.advance(4)  # B waits for 31 s; what runs comes to its end
    submit_task(agents[A])
    assert running() == [newcomer]
    end(newcomer)
    assert running() == [waiting]
    assert loaded() == [B]


def test_nothing_new_starts_on_the_model_that_is_to_make_room(agents, fake_clock, settings):
    settings.SWAP_WAIT_SECONDS = 30
    make_node(A, B, slots=2, max_loaded_models=1)
    submit_task(agents[A])
    waiting = submit_task(agents[B])
    fake_clock.advance(30)
    assert submit_task(agents[A]).status == "queued", "it took the second slot of a model that is to go"
    end(running()[0])
    assert running() == [waiting]


def test_all_slots_of_a_model_that_is_loaded_anew_are_filled(agents, fake_clock, settings):
    settings.SWAP_WAIT_SECONDS = 30
    make_node(A, B, slots=2, max_loaded_models=1)
    for model in (A, A, A, B, B):
        submit_task(agents[model])
    fake_clock.advance(30)
    for task in running():
        end(task)
    assert [task.model for task in running()] == [B, B]


def test_a_model_that_nobody_asks_for_makes_room_at_once(node, agents):
    first = submit_task(agents[A])
    end(first)
    assert loaded() == [A]
    assert submit_task(agents[B]).status == "running"
    assert loaded() == [B]


def test_a_slot_that_becomes_free_is_offered_to_every_model_of_the_node(node, agents):
    first, other = submit_task(agents[A]), submit_task(agents[B])
    assert other.status == "queued"
    end(first)
    assert running() == [other]


def test_a_retry_that_is_not_due_holds_no_model_in_memory(node, agents, fake_clock):
    first = submit_task(agents[A])
    other = submit_task(agents[B])
    ticket = take(first)
    change = operations.SendBack(ticket.task_id, ticket.fence, "again", counts="attempts", delay_seconds=60)
    assert apply(operations.send_back, [change]) == [True]
    assert running() == [other]


def test_with_room_for_two_the_idle_one_goes(agents, fake_clock):
    node = make_node(A, B, C, slots=1, max_loaded_models=2)
    node.places.filter(name__in=[A, B]).update(is_loaded=True)
    submit_task(agents[A])
    assert submit_task(agents[C]).status == "running"
    assert loaded() == [A, C]


def test_with_room_for_two_the_one_with_the_least_to_do_goes(agents, fake_clock, settings):
    settings.SWAP_WAIT_SECONDS = 30
    node = make_node(A, B, C, slots=1, max_loaded_models=2)
    node.places.filter(name__in=[A, B]).update(is_loaded=True)
    for model in (A, A, A, B):
        submit_task(agents[model])
    waiting = submit_task(agents[C])
    submit_task(agents[B])
    fake_clock.advance(30)
    _, less = running()
    end(less)
    assert [task.model for task in running()] == [A, C]
    assert waiting in running()


def test_in_an_overload_a_model_keeps_its_place_for_a_while(node, agents, fake_clock, settings):
    """Everybody has waited too long: to please the oldest each time would swap models with every task."""
    settings.SWAP_WAIT_SECONDS = 30
    for model in (A, A, A, B, B, A):
        submit_task(agents[model])
    fake_clock.advance(31)
    order = []
    for _ in range(5):
        (task,) = running()
        order.append(task.model[0])
        fake_clock.advance(1)
        end(task)
    assert "".join(order) == "abbaa"  # and not "ababa"


def test_among_models_that_wait_the_higher_class_is_loaded_first(node, agents):
    first = submit_task(agents[A])
    submit_task(agents[B], priority=AgentTask.Priority.BACKGROUND)
    urgent = submit_task(agents[C], priority=AgentTask.Priority.INTERACTIVE)
    end(first)
    assert running() == [urgent]


def test_a_node_with_room_elsewhere_is_taken_instead(node, agents):
    free = make_node(B, slots=1)
    submit_task(agents[A])
    assert submit_task(agents[B]).node_id == free.pk


def test_a_model_that_vanished_counts_as_long_as_it_runs(node, agents):
    first = submit_task(agents[A])
    node.places.filter(name=A).update(is_available=False, is_loaded=False)
    assert submit_task(agents[B]).status == "queued"
    end(first)
    assert [task.model for task in running()] == [B]


def test_operators_see_when_room_is_made_at_the_latest(node, agents, fake_clock, settings):
    settings.SWAP_WAIT_SECONDS = 30
    submit_task(agents[A])
    fake_clock.advance(5)
    submit_task(agents[B])
    fake_clock.advance(5)
    rooms = {queue.model: [state.room_at for state in queue.places] for queue in overview(tasks=10)}
    assert rooms[A] == rooms[C] == [None]
    (room_at,) = rooms[B]
    assert (room_at - fake_clock.now()).total_seconds() == 25
    (queue,) = overview(tasks=10, model=B)
    assert queue.expected_wait_seconds is None, "nobody knows how long the other model is needed"
