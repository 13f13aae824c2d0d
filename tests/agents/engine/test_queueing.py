"""The formulas: against what is known of simple queues, and against queues that are played through."""

import heapq
import math
import random
from collections.abc import Callable

import pytest

from agents.engine import queueing
from agents.engine.queueing import P95, Service

TASKS = 200_000
Draw = Callable[[random.Random], float]


def exponential(mean: float) -> Service:
    return Service(mean, mean)


def test_one_slot_and_exponential_times_wait_as_the_textbook_says():
    waiting = queueing.waiting(0.8, exponential(1), 1)
    assert waiting.probability == pytest.approx(0.8)
    assert waiting.mean == pytest.approx(0.8 / (1 - 0.8))
    assert waiting.within(P95) == pytest.approx(math.log(0.8 / 0.05) / (1 - 0.8))


def test_two_slots_wait_as_the_textbook_says():
    waiting = queueing.waiting(1, exponential(1), 2)
    assert waiting.probability == pytest.approx(1 / 3)
    assert waiting.mean == pytest.approx(1 / 3)


@pytest.mark.parametrize("deviation", [0, 0.5, 2])
def test_one_slot_waits_as_pollaczek_and_khinchine_say_whatever_the_times(deviation):
    second_moment = 1 + deviation**2
    assert queueing.waiting(0.7, Service(1, deviation), 1).mean == pytest.approx(0.7 * second_moment / (2 * 0.3))


def test_a_thousand_slots_are_no_trouble():
    waiting = queueing.waiting(980, exponential(1), 1000)
    assert 0.3 < waiting.probability < 0.6
    assert waiting.mean == pytest.approx(waiting.probability / 20)


@pytest.mark.parametrize("per_second", [4, 4.0001, 100])
def test_a_queue_that_grows_for_ever_has_no_wait(per_second):
    assert queueing.waiting(per_second, exponential(1), 4) is None


def test_who_never_waits_waits_for_no_time():
    waiting = queueing.waiting(0, exponential(1), 1)
    assert (waiting.probability, waiting.mean, waiting.within(P95)) == (0, 0, 0)


def test_most_have_a_slot_at_once_where_fewer_wait_than_may_be_late():
    waiting = queueing.waiting(1, exponential(1), 5)
    assert 0 < waiting.probability < 0.05
    assert waiting.within(P95) == 0


@pytest.mark.parametrize("per_second", [0.1, 3.9, 40])
@pytest.mark.parametrize("seconds", [0, 0.5, 60])
def test_one_slot_fewer_than_needed_is_too_few(per_second, seconds):
    service = Service(1.5, 3)
    needed = queueing.slots_for(per_second, service, seconds=seconds)
    assert queueing.waiting(per_second, service, needed).within(P95) <= seconds
    fewer = queueing.waiting(per_second, service, needed - 1) if needed > 1 else None
    assert fewer is None or fewer.within(P95) > seconds


# Against a simulation ------------------------------------------------------------------------------------------------


def simulated(per_second: float, draw: Draw, slots: int) -> list[float]:
    """Play a queue through, first come, first served; returns how long each task waited, in order of the wait."""
    chance = random.Random(1961)
    free_at = [0.0] * slots
    now, waits = 0.0, []
    for _ in range(TASKS):
        now += chance.expovariate(per_second)
        begun = max(now, heapq.heappop(free_at))
        heapq.heappush(free_at, begun + draw(chance))
        waits.append(begun - now)
    return sorted(waits)


def lognormal(service: Service) -> Draw:
    """Times with one long tail: what answers of language models look like."""
    sigma = math.sqrt(math.log(1 + service.variability))
    mu = math.log(service.mean) - sigma**2 / 2
    return lambda chance: chance.lognormvariate(mu, sigma)


@pytest.mark.parametrize(("slots", "utilisation"), [(1, 0.6), (4, 0.7), (4, 0.8), (16, 0.8)])
def test_exponential_times_wait_as_long_as_in_a_simulation(slots, utilisation):
    service, per_second = exponential(2), utilisation * slots / 2
    waits = simulated(per_second, lambda chance: chance.expovariate(1 / service.mean), slots)
    expected = queueing.waiting(per_second, service, slots)
    # So many tasks are still some percent off: one rush makes thousands wait together.
    assert sum(waits) / TASKS == pytest.approx(expected.mean, rel=0.1)
    assert waits[int(P95 * TASKS)] == pytest.approx(expected.within(P95), rel=0.1)
    assert sum(wait > 0 for wait in waits) / TASKS == pytest.approx(expected.probability, rel=0.03)


@pytest.mark.parametrize("deviation", [0, 0.6, 3])
@pytest.mark.parametrize(("slots", "utilisation"), [(2, 0.8), (8, 0.85)])
def test_other_times_wait_about_as_long_as_in_a_simulation(slots, utilisation, deviation):
    """Of several slots the approximation is known to be off, by a fifth where times vary as widely as the last."""
    service, per_second = Service(2, deviation), utilisation * slots / 2
    waits = simulated(per_second, lognormal(service), slots)
    expected = queueing.waiting(per_second, service, slots)
    assert sum(waits) / TASKS == pytest.approx(expected.mean, rel=0.2)
    assert waits[int(P95 * TASKS)] == pytest.approx(expected.within(P95), rel=0.2)
