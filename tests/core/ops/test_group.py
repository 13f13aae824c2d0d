"""Which processes serve, and what they do."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import AgentTask
from core.models import Lease, MaintenanceRun, Process
from core.ops import group, maintenance
from core.ops.group import State
from core.ops.processes import ProcessIdentity
from tests.factories import make_builtin_node, make_process, make_task, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def only():
    (member,) = group.members()
    return member


def test_a_process_that_was_heard_of_lately_is_alive():
    make_process("gpu1:0:0/4711/1", heard=timedelta(seconds=9))
    member = only()
    assert (member.host, member.pid, member.state) == ("gpu1", 4711, State.ALIVE)
    assert 8 < (timezone.now() - member.last_heard_at).total_seconds() < 20


def test_one_that_was_not_is_silent():
    make_process(heard=timedelta(minutes=5))
    member = only()
    assert member.state == State.SILENT
    assert 299 < (timezone.now() - member.last_heard_at).total_seconds() < 320


def test_one_that_died_on_this_host_is_dead_at_once():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    make_process(str(ProcessIdentity.of(process.pid)))
    assert only().state == State.ALIVE
    process.kill()
    process.communicate()
    assert only().state == State.DEAD


def test_one_whose_lease_is_gone_is_silent_since_its_start():
    process = make_process()
    Lease.objects.all().delete()
    member = only()
    assert (member.state, member.last_heard_at) == (State.SILENT, process.started_at)


def test_web_comes_before_workers_and_those_before_the_scheduler():
    for role in ("beat", "worker", "web", "worker"):
        make_process(role=role)
    assert [member.process.role for member in group.members()] == ["web", "worker", "worker", "beat"]


def test_it_tells_which_tasks_a_process_runs():
    make_builtin_node()
    process = make_process()
    mine, others = make_task(make_user()), make_task(make_user())
    AgentTask.objects.filter(pk=mine.pk).update(runner=process.identity)
    AgentTask.objects.filter(pk=others.pk).update(runner="elsewhere/1/1")
    (work,) = only().work
    assert (work.kind, work.id, work.title) == ("task", str(mine.pk), mine.agent.name)


def test_it_tells_which_job_a_process_runs_and_what_it_does_for_all():
    process = make_process()
    until = timezone.now() + timedelta(minutes=1)
    for name in ("caretaker", f"{maintenance.LEASE_PREFIX}vacuum_database"):
        Lease.objects.create(name=name, holder=process.identity, held_until=until)
    Lease.objects.create(name="alerts", holder=process.identity, held_until=timezone.now() - timedelta(minutes=1))
    run = MaintenanceRun.objects.create(job="vacuum_database", trigger="schedule", started_at=timezone.now())
    member = only()
    assert member.duties == ["caretaker"]
    (work,) = member.work
    assert (work.kind, work.id, work.title) == ("job", str(run.pk), "Vacuum and analyse the database")


def test_the_number_of_queries_does_not_grow(django_assert_num_queries):
    make_process()
    with django_assert_num_queries(5):
        group.members()
    for role in Process.Role:
        make_process(role=role)
    with django_assert_num_queries(5):
        group.members()
