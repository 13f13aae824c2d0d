"""The table of schedules as rows of Celery beat."""

import json
from datetime import timedelta

from django.conf import settings
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from core.ops import first_run, maintenance

# A message that no worker took by then is dropped: a worker that was stopped does not wake to a flood.
EXPIRES_BEFORE_NEXT_SECONDS = 5


def name_of(job: str) -> str:
    """Name the schedule of a maintenance job."""
    return f"maintenance: {job}"


def is_own(name: str) -> bool:
    """Tell whether a schedule's name is one that `ensure` looks for."""
    return name in map(name_of, settings.MAINTENANCE_SCHEDULES)


def job_of(schedule: PeriodicTask) -> str:
    """Return the name of the maintenance job that an own schedule runs."""
    return str(schedule.name).removeprefix(name_of(""))


def drop_late_messages(schedule: PeriodicTask) -> None:
    """Have its messages expire before the next one comes, as its interval now is; who calls saves it."""
    if schedule.interval is not None:
        schedule.expire_seconds = _expire_seconds(int(schedule.interval.schedule.run_every.total_seconds()))


def ensure() -> list[str]:
    """Make the schedules that are missing; returns the names of their jobs.

    What operators edited or disabled stays as it is; what they deleted is made again, so disable instead.
    """
    existing = set(PeriodicTask.objects.filter(task=maintenance.TASK).values_list("name", flat=True))
    missing = [name for name in settings.MAINTENANCE_SCHEDULES if name_of(name) not in existing]
    for name in missing:
        _create(name, settings.MAINTENANCE_SCHEDULES[name])
    return missing


@first_run.step("schedules")
def _at_every_start() -> list[str]:
    ensure()
    return []


def _create(name: str, every: timedelta) -> None:
    titles = {job.name: job.title for job in maintenance.jobs()}
    seconds = int(every.total_seconds())
    PeriodicTask.objects.get_or_create(  # another process may do the same at this moment
        name=name_of(name),
        defaults={
            "task": maintenance.TASK,
            "args": json.dumps([name]),
            "interval": _interval(seconds),
            "expire_seconds": _expire_seconds(seconds),
            "description": titles[name],
        },
    )


def _expire_seconds(every: int) -> int:
    return max(1, every - EXPIRES_BEFORE_NEXT_SECONDS)


def _interval(seconds: int) -> IntervalSchedule:
    """Find or make an interval, in the unit that a person would choose."""
    units = ((86_400, IntervalSchedule.DAYS), (3600, IntervalSchedule.HOURS), (60, IntervalSchedule.MINUTES))
    size, period = next(((size, unit) for size, unit in units if seconds % size == 0), (1, IntervalSchedule.SECONDS))
    # Two of the same do no harm, and the table has no constraint against them.
    found = IntervalSchedule.objects.filter(every=seconds // size, period=period).first()
    return found or IntervalSchedule.objects.create(every=seconds // size, period=period)
