import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from core.models import Lease
from core.ops import heartbeat
from core.ops.heartbeat import Heartbeat, living_workers
from core.ops.processes import ProcessIdentity


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
    worker_row("elsewhere:0:0/1/1", seconds=-3601)
    worker = Heartbeat()
    worker.start()
    worker.start()
    wait_until(lambda: living_workers() == 1)
    worker.stop()
    assert living_workers() == 0
    assert not Lease.objects.exists()  # the one that is long dead was forgotten
