import subprocess
from collections.abc import Iterator

import pytest
from django.conf import settings

from agents.engine import caretaker, hints, operations
from agents.engine.caretaker import Caretaker, free_dead_runners, hold_duty, reap, relay
from agents.engine.owners import this_process
from agents.engine.runs import runs
from agents.engine.writer import apply
from agents.models import AgentTask
from core.models import Lease
from core.ops.processes import ProcessIdentity
from tests.agents.engine.factories import append, make_agent, make_node, submit_task, succeed, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


@pytest.fixture
def published() -> Iterator[list]:
    published: list = []
    hints.granted_listeners.append(published.extend)
    yield published
    hints.granted_listeners.remove(published.extend)


def name_of(process: subprocess.Popen[bytes]) -> str:
    return str(ProcessIdentity.of(process.pid))


def test_a_dead_runner_of_this_host_is_noticed_at_once(other_process, fake_clock):
    make_node()
    task = submit_task(make_agent())
    ticket = take(task, name_of(other_process))
    assert append(ticket, "half an ans")
    assert free_dead_runners() == 0

    other_process.kill()
    other_process.wait()
    assert free_dead_runners() == 1
    task.refresh_from_db()
    # The slot that became free is given again within the same transaction.
    assert (task.status, task.interruptions, task.attempts, task.runner, task.fence) == ("running", 1, 0, "", 2)
    assert not append(ticket, "wer")
    assert not succeed(ticket, "half an answer")
    assert free_dead_runners() == 0


def test_a_runner_elsewhere_is_left_to_its_lease(fake_clock):
    make_node()
    task = submit_task(make_agent())
    take(task, "elsewhere:12345678:1/4242/99")
    assert free_dead_runners() == 0
    fake_clock.advance(settings.LEASE_SECONDS)
    reap()
    task.refresh_from_db()
    assert task.interruptions == 0
    fake_clock.advance(0.001)
    reap()
    task.refresh_from_db()
    assert (task.interruptions, task.fence) == (1, 2)


def test_one_process_has_the_duty_until_its_lease_ends(fake_clock):
    assert hold_duty()
    assert hold_duty()
    Lease.objects.update(holder="elsewhere:12345678:1/4242/99")
    assert not hold_duty()
    fake_clock.advance(caretaker.DUTY_SECONDS + 1)
    assert hold_duty()
    assert Lease.objects.get().holder == this_process()


def test_the_duty_of_a_dead_process_is_taken_over_at_once(other_process, fake_clock):
    assert hold_duty()
    Lease.objects.update(holder=name_of(other_process))
    assert not hold_duty()
    other_process.kill()
    other_process.wait()
    assert hold_duty()


def test_a_grant_that_nobody_announced_is_published_after_a_second(fake_clock, published):
    make_node()
    task = submit_task(make_agent())
    published.clear()  # as if the process had died before its announcer came to it
    relay()
    assert published == []
    fake_clock.advance(settings.RELAY_SECONDS + 0.001)
    relay()
    assert published == [task.pk]


def test_a_grant_that_nobody_took_is_published_again_when_its_lease_ends(fake_clock, published):
    make_node()
    task = submit_task(make_agent())
    AgentTask.objects.update(announced_at=fake_clock.now())
    published.clear()
    fake_clock.advance(settings.LEASE_SECONDS + 1)
    reap()
    relay()
    assert published == [task.pk]
    task.refresh_from_db()
    assert (task.fence, task.interruptions) == (1, 0)


def test_a_grant_that_nobody_took_is_published_once_more_before_that(fake_clock, published):
    make_node()
    task = submit_task(make_agent())
    for expected in ([task.pk], []):
        AgentTask.objects.filter(announced_at=None).update(announced_at=fake_clock.now())
        published.clear()
        fake_clock.advance(settings.REAPER_SECONDS + 1)
        reap()
        relay()
        assert published == expected


def test_what_is_past_its_deadline_ends_and_leaves_its_slot(fake_clock):
    make_node()
    hasty, patient = make_agent(deadline_seconds=10), make_agent(deadline_seconds=1000)
    first, second, third = submit_task(hasty), submit_task(hasty), submit_task(patient)
    ticket = take(first)
    fake_clock.advance(10)
    reap()
    states = dict(AgentTask.objects.values_list("pk", "status"))
    assert states == {first.pk: "expired", second.pk: "expired", third.pk: "running"}
    assert not succeed(ticket, "too late")


@pytest.mark.parametrize("hours", [2, -2])
def test_where_the_clock_is_set_who_lives_renews_before_anything_is_taken_away(
    fake_clock, settings, wait_until, hours
):
    settings.LEASE_SECONDS, settings.REAPER_SECONDS = 2, 0.01
    make_node(slots=2)
    agent = make_agent(deadline_seconds=86_400)
    silent, living = submit_task(agent), submit_task(agent)
    take(silent, "elsewhere:12345678:1/4242/99")
    ticket = take(living, "elsewhere:12345678:1/4243/99")
    thread = Caretaker()
    thread._look()
    fake_clock.advance(hours * 3600)
    thread._look()
    assert set(AgentTask.objects.values_list("interruptions", flat=True)) == {0}

    def is_taken_from_the_silent() -> bool:
        assert apply(operations.renew, [operations.Renew(ticket.task_id, ticket.fence)]) == [True]
        thread._look()
        return AgentTask.objects.get(pk=silent.pk).interruptions == 1

    if hours > 0:  # set back, its lease lasts for as much longer
        wait_until(is_taken_from_the_silent)
        assert AgentTask.objects.get(pk=living.pk).interruptions == 0


def test_what_this_process_was_given_and_does_not_run_goes_back(fake_clock):
    """The database committed, but its answer was lost: nobody here knows that there is something to run."""
    make_node(slots=2)
    agent = make_agent()
    forgotten, held = submit_task(agent), submit_task(agent)
    take(forgotten, this_process())
    run = runs.begin(take(held, this_process()))
    free_dead_runners()
    assert set(AgentTask.objects.values_list("runner", flat=True)) == {this_process()}

    fake_clock.advance(settings.REAPER_SECONDS + 1)
    free_dead_runners()
    runs.end(run)
    tasks = {task.pk: (task.runner, task.fence, task.interruptions) for task in AgentTask.objects.all()}
    assert tasks == {forgotten.pk: ("", 2, 0), held.pk: (this_process(), 1, 0)}
