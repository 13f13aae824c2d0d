import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from core.models import Lease
from core.ops import clock, leases
from core.ops.processes import ProcessIdentity

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def lease_of(holder, *, seconds):
    return Lease.objects.create(
        name="duty", holder=str(holder), held_until=timezone.now() + timedelta(seconds=seconds)
    )


@pytest.fixture
def other_process():
    """A process of this host that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def now():
    """A moment at which the clock stands still."""
    moment = timezone.now()
    previous = clock.use(lambda: moment)
    yield moment
    clock.use(previous)


def test_a_lease_that_nobody_holds_is_taken(now):
    assert leases.take("duty", seconds=60)
    lease = Lease.objects.get(name="duty")
    assert lease.holder == str(ProcessIdentity.current())
    assert lease.held_until == now + timedelta(seconds=60)


def test_a_lease_that_somebody_holds_is_not_taken(other_process):
    lease_of(ProcessIdentity.of(other_process.pid), seconds=60)
    assert not leases.take("duty", seconds=60)


def test_a_lease_whose_time_is_up_is_taken(other_process):
    lease_of(ProcessIdentity.of(other_process.pid), seconds=-1)
    assert leases.take("duty", seconds=60)


def test_a_dead_holder_of_this_host_loses_its_lease_at_once(other_process):
    holder = ProcessIdentity.of(other_process.pid)
    lease_of(holder, seconds=60)
    other_process.kill()
    other_process.wait()
    assert leases.take("duty", seconds=60)


def test_a_holder_elsewhere_keeps_its_lease():
    lease_of("elsewhere:0:0/1/1", seconds=60)
    assert not leases.take("duty", seconds=60)


def test_only_who_renews_takes_what_it_holds_already(now):
    assert leases.take("duty", seconds=60)
    assert not leases.take("duty", seconds=60)
    assert leases.take("duty", seconds=90, renews=True)
    assert Lease.objects.get(name="duty").held_until == now + timedelta(seconds=90)


def test_a_lease_that_was_given_back_is_free():
    assert leases.take("duty", seconds=60)
    leases.release("duty")
    assert leases.take("duty", seconds=60)


def test_nobody_gives_back_what_others_hold():
    lease_of("elsewhere:0:0/1/1", seconds=60)
    leases.release("duty")
    assert Lease.objects.filter(name="duty").exists()


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_held_for_as_long_as_the_block_runs(fake_clock, wait_until):
    with leases.held("duty", seconds=60, renew_every_seconds=0.01) as is_ours:
        assert is_ours
        for _ in range(3):
            fake_clock.advance(59)
            until = fake_clock.now() + timedelta(seconds=60)
            wait_until(lambda until=until: Lease.objects.get().held_until == until)
        with leases.held("duty", seconds=60, renew_every_seconds=60) as is_ours_too:
            assert not is_ours_too
        assert Lease.objects.exists()
    assert not Lease.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_was_taken_over_is_neither_renewed_nor_given_back(fake_clock, wait_until, caplog):
    """By this very process, of which all threads are one holder."""
    with leases.held("duty", seconds=60, renew_every_seconds=3600):
        fake_clock.advance(61)
        assert leases.take("duty", seconds=60)
    taken = Lease.objects.get()
    assert taken.held_until == fake_clock.now() + timedelta(seconds=60)
    Lease.objects.all().delete()

    with leases.held("duty", seconds=60, renew_every_seconds=0.01):
        Lease.objects.update(held_until=taken.held_until + timedelta(seconds=9))
        wait_until(lambda: "The lease duty was lost" in caplog.text)
    assert Lease.objects.get().held_until == taken.held_until + timedelta(seconds=9)


def test_the_database_says_what_time_it_is(monkeypatch):
    """A host whose own clock is hours ahead takes nothing from others."""
    lease_of("elsewhere:0:0/1/1", seconds=60)
    clock.now()
    ahead = timezone.now() + timedelta(hours=2)
    if connection.vendor == "postgresql":  # on SQLite there is one host, and one clock
        monkeypatch.setattr(timezone, "now", lambda: ahead)
    assert not leases.take("duty", seconds=60)
