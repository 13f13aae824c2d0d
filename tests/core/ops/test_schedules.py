import json
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from core.ops import first_run, maintenance, schedules

pytestmark = pytest.mark.django_db


def test_every_schedule_names_a_job_and_every_job_has_a_schedule():
    assert set(settings.MAINTENANCE_SCHEDULES) == {job.name for job in maintenance.jobs()}


def test_each_entry_expires_just_before_its_next_turn():
    assert set(schedules.ensure()) == set(settings.MAINTENANCE_SCHEDULES)
    for name, every in settings.MAINTENANCE_SCHEDULES.items():
        entry = PeriodicTask.objects.get(name=f"maintenance: {name}")
        period = timedelta(**{entry.interval.period: entry.interval.every})
        assert period == every
        assert 0 < (every - timedelta(seconds=entry.expire_seconds)).total_seconds() <= 5
        assert (entry.task, json.loads(entry.args)) == ("core.run_maintenance", [name])


def test_nothing_is_made_twice():
    schedules.ensure()
    assert schedules.ensure() == []
    assert PeriodicTask.objects.count() == len(settings.MAINTENANCE_SCHEDULES)


def test_what_an_operator_edited_or_disabled_survives_a_start():
    schedules.ensure()
    hourly = IntervalSchedule.objects.create(every=3, period=IntervalSchedule.HOURS)
    edited = PeriodicTask.objects.get(name="maintenance: refresh_models")
    edited.interval, edited.enabled = hourly, False
    edited.save()
    first_run.run_all()
    edited.refresh_from_db()
    assert edited.interval == hourly
    assert not edited.enabled


def test_what_was_deleted_is_made_again():
    schedules.ensure()
    PeriodicTask.objects.get(name="maintenance: refresh_models").delete()
    assert schedules.ensure() == ["refresh_models"]


def test_equal_intervals_share_a_row():
    schedules.ensure()
    assert IntervalSchedule.objects.count() == len(set(settings.MAINTENANCE_SCHEDULES.values()))


def test_the_command_tells_what_it_made():
    first, second = StringIO(), StringIO()
    call_command("ensure_schedules", stdout=first)
    call_command("ensure_schedules", stdout=second)
    assert "vacuum_database" in first.getvalue()
    assert second.getvalue().strip() == "All schedules exist."
