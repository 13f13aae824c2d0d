import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from core.models import Lease
from core.ops import beat, leases
from core.ops.processes import ProcessIdentity
from sutazai.celery import app
from tests.program import ROOT, migrated, wait_for

# The scheduler closes connections in which a transaction is open.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


class RecordingScheduler(beat.Scheduler):
    """Writes down that it sent something, as the real one does, and keeps it instead of sending it."""

    def __init__(self):
        self.sent = []
        super().__init__(app=app)

    def apply_async(self, entry, *_, **__):
        self.sent.append(entry.name)
        self.sync()

    def work(self):
        """Tick until nothing is to be done now; returns the seconds until the next look."""
        while not (pause := self.tick()):
            pass
        return pause


@pytest.fixture
def schedule():
    hourly = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    then = timezone.now() - timedelta(hours=2)
    return PeriodicTask.objects.create(name="hourly", task="nothing", interval=hourly, last_run_at=then)


@pytest.fixture
def other_beat():
    """A process of this host that lives, and has the duty."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        give_duty(ProcessIdentity.of(process.pid))
        yield process
        process.kill()


def give_duty(holder):
    held_until = timezone.now() + timedelta(seconds=60)
    Lease.objects.update_or_create(name=beat.DUTY, defaults={"holder": str(holder), "held_until": held_until})


def test_what_is_due_is_sent_once_and_written_down(schedule):
    scheduler = RecordingScheduler()
    assert 0 < scheduler.work() <= beat.RENEW_SECONDS
    scheduler.work()
    assert scheduler.sent == ["hourly"]
    schedule.refresh_from_db()
    assert timezone.now() - schedule.last_run_at < timedelta(minutes=1)


def test_a_second_beat_stands_by(schedule, other_beat):
    scheduler = RecordingScheduler()
    assert scheduler.work() == beat.STANDBY_SECONDS
    assert scheduler.sent == []


def test_it_takes_over_from_a_beat_that_died_what_is_due_still(schedule, other_beat):
    scheduler = RecordingScheduler()
    scheduler.work()
    other_beat.kill()
    other_beat.wait()
    scheduler.work()
    assert scheduler.sent == ["hourly"]


def test_it_does_not_send_again_what_the_other_beat_sent(schedule, other_beat):
    scheduler = RecordingScheduler()
    scheduler.work()
    PeriodicTask.objects.filter(pk=schedule.pk).update(last_run_at=timezone.now())
    other_beat.kill()
    other_beat.wait()
    scheduler.work()
    assert scheduler.sent == []


def test_a_beat_that_lost_the_duty_while_it_slept_sends_nothing_more(schedule, monkeypatch):
    monkeypatch.setattr(beat, "RENEW_SECONDS", 0)
    scheduler = RecordingScheduler()
    scheduler.tick()
    give_duty("elsewhere:0:0/1/1")
    PeriodicTask.objects.filter(pk=schedule.pk).update(last_run_at=timezone.now() - timedelta(hours=2))
    assert scheduler.tick() == beat.STANDBY_SECONDS
    assert scheduler.sent == ["hourly"]


def test_it_waits_for_a_database_that_is_away(schedule, monkeypatch):
    def take(*_, **__):
        raise OperationalError("the connection is closed")

    scheduler = RecordingScheduler()
    with monkeypatch.context() as patch:
        patch.setattr(leases, "take", take)
        assert scheduler.tick() == beat.STANDBY_SECONDS
    scheduler.work()
    assert scheduler.sent == ["hourly"]


def test_a_beat_that_stops_leaves_the_duty_to_others(schedule):
    scheduler = RecordingScheduler()
    scheduler.work()
    assert Lease.objects.filter(name=beat.DUTY).exists()
    scheduler.close()
    assert not Lease.objects.filter(name=beat.DUTY).exists()


SCHEDULE = """
from datetime import timedelta
import django
django.setup()
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="tidy", task="core.run_maintenance", args='["delete_slow_queries"]', interval=every)
"""


def test_two_real_beats_send_each_run_once(tmp_path):
    shutil.copy(migrated(), tmp_path)
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "sutazai.settings",
        "SUTAZAI_DATA_DIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", SCHEDULE], cwd=ROOT, env=environment, check=True)
    command = [sys.executable, "-m", "celery", "--quiet", "--skip-checks", "--app", "sutazai", "beat"]
    beats = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    try:
        # Not as soon as it is sent: a beat that is stopped before it has written that down sends it again.
        wait_for(lambda: written_down(tmp_path) >= 6, "six runs are sent and written down", seconds=120)
        assert [process.poll() for process in beats] == [None, None]
    finally:
        for process in beats:
            process.terminate()
        for process in beats:
            process.wait(30)
    sent = sorted(file.stat().st_mtime for file in (tmp_path / "broker" / "messages").iterdir())
    assert min(later - earlier for earlier, later in pairwise(sent)) > 0.5
    assert written_down(tmp_path) == len(sent)


def written_down(data_dir):
    with closing(sqlite3.connect(data_dir / "db.sqlite3", timeout=20)) as database:
        (count,) = database.execute("SELECT total_run_count FROM django_celery_beat_periodictask").fetchone()
    return count
