import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from core.models import Lease, Process
from core.ops import clock, heartbeat
from core.ops.heartbeat import Heartbeat, Role, living_workers
from core.ops.processes import ProcessIdentity
from tests.factories import make_process


def worker_row(holder, *, seconds):
    until = timezone.now() + timedelta(seconds=seconds)
    return Lease.objects.create(name=f"worker:{seconds}", holder=str(holder), held_until=until)


@pytest.mark.django_db
def test_without_a_beat_nobody_lives():
    assert living_workers() == 0


@pytest.mark.django_db
def test_a_beat_counts_a_process_once():
    heartbeat.beat()
    heartbeat.beat()
    assert living_workers() == 1


@pytest.mark.django_db
def test_a_worker_elsewhere_lives_until_its_time_is_up():
    worker_row("elsewhere:0:0/1/1", seconds=20)
    worker_row("elsewhere:0:0/2/1", seconds=-1)
    assert living_workers() == 1


@pytest.mark.django_db
def test_a_worker_that_died_on_this_host_is_missed_at_once():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker_row(ProcessIdentity.of(process.pid), seconds=20)
    assert living_workers() == 1
    process.kill()
    process.communicate()
    assert living_workers() == 0


@pytest.mark.django_db
def test_other_leases_are_no_workers():
    Lease.objects.create(name="caretaker", holder="x", held_until=timezone.now() + timedelta(minutes=1))
    assert living_workers() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_worker_is_there_from_its_start_to_its_stop(wait_until):
    worker = Heartbeat()
    worker.start(Role.WORKER, threads=8)
    worker.start(Role.WORKER, threads=8)
    wait_until(lambda: living_workers() == 1)
    told = Process.objects.get()
    assert (told.role, told.threads, told.version) == ("worker", 8, settings.VERSION)
    assert ProcessIdentity.parse(told.identity).pid == os.getpid()
    worker.stop()
    assert living_workers() == 0
    assert not Process.objects.exists()
    assert not Lease.objects.exists()


@pytest.mark.django_db
def test_a_process_comes_in_the_place_of_those_that_died_on_its_host():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = str(ProcessIdentity.of(process.pid))
    process.kill()
    process.communicate()
    kept = [("worker", "elsewhere:0:0/1/1"), ("beat", dead.replace("/", "/0"))]
    for role, identity in [*kept, ("worker", dead)]:
        make_process(identity, role=role)
    me = Process(identity="me", role="worker", version="1", started_at=timezone.now())
    heartbeat.introduce(me)
    assert {(row.role, row.identity) for row in Process.objects.all()} == {*kept, ("worker", "me")}
    assert not Lease.objects.filter(holder=dead).exists()


@pytest.mark.django_db
def test_beats_of_several_kinds_are_told_apart():
    for role in Role:
        heartbeat.beat(role)
    assert [len(heartbeat.living(role)) for role in Role] == [1, 1, 1]


@pytest.mark.django_db
def test_a_beat_is_one_statement_from_the_second_on(django_assert_num_queries):
    heartbeat.beat()
    with django_assert_num_queries(1):
        heartbeat.beat()


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_process_that_starts_while_the_database_is_away_is_known_when_it_is_back(wait_until, monkeypatch):
    def away():
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.05)
    worker = Heartbeat()
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", away)
        worker.start(Role.WORKER)
    try:
        wait_until(lambda: Process.objects.exists() and living_workers() == 1)
    finally:
        worker.stop()
