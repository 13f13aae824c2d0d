"""Maintenance jobs: what they are, and the one way to run them.

A job is a function that does its work and returns a line about it. Each run is a row with the job's figures before
and after, as far as they could be taken. Its preview says what it would do, by the same rule: one query, which is
counted or carried out. Core's own jobs stand in `core.ops.jobs`; other applications register theirs when Django
starts.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery import current_app
from django.db.models import Subquery
from django.utils import timezone
from kombu.exceptions import OperationalError

from core import audit
from core.models import Lease, MaintenanceRun
from core.ops import clock, leases

logger = logging.getLogger(__name__)

# A run renews its lease. How long one lasts without matters where another host's process dies in the middle of a run,
# and where nobody can write for long, as while SQLite vacuums a large file.
LEASE_SECONDS = 3600
RENEW_EVERY_SECONDS = 60
LEASE_PREFIX = "maintenance:"
TASK = "core.run_maintenance"

Work = Callable[[], str]
Figures = Callable[[], Mapping[str, int]]
Status = MaintenanceRun.Status


@dataclass(frozen=True)
class Job:
    """A maintenance job. figures: numbers that the work is meant to change, by name with their unit.

    preview: says what the work would do now, and does nothing. is_long: it may take minutes where there is much to do
    or somebody else does not answer, so the console has a worker do it instead of a thread that serves people.
    """

    name: str
    title: str
    work: Work
    figures: Figures
    preview: Work
    is_long: bool = False


class UnknownJobError(LookupError):
    """No job has this name. `manage.py maintain --list` lists them."""


_jobs: dict[str, Job] = {}


def job(name: str, title: str, *, figures: Figures, preview: Work, is_long: bool = False) -> Callable[[Work], Work]:
    """Register the decorated function as a maintenance job; its name stands in rows and schedules and never changes.

    The function may be stopped at any moment and run again, and may run beside itself once in a long while.
    """

    def register(work: Work) -> Work:
        _jobs[name] = Job(name, title, work, figures, preview, is_long)
        return work

    return register


def jobs() -> list[Job]:
    """All jobs, by name."""
    return [_jobs[name] for name in sorted(_jobs)]


def find(name: str) -> Job:
    """Raises UnknownJobError."""
    if name not in _jobs:
        raise UnknownJobError(name)
    return _jobs[name]


def preview(name: str) -> str:
    """Say what a job would do now. Raises UnknownJobError."""
    job = find(name)
    try:
        return job.preview()
    except Exception as error:
        logger.exception("It cannot be told what the job %s would do.", name)
        return f"It cannot be told: {type(error).__name__}: {error}"


def figures(name: str) -> dict[str, int]:
    """Take a job's figures; none where that fails, which keeps nothing from being done. Raises UnknownJobError."""
    job = find(name)
    try:
        return dict(job.figures())
    except Exception:
        logger.exception("There are no figures of the job %s.", name)
        return {}


def latest() -> dict[str, MaintenanceRun]:
    """The last run of each job that ever ran."""
    if not _jobs:
        return {}
    runs = MaintenanceRun.objects.order_by("-pk").values("pk")
    newest: list[Any] = [Subquery(runs.filter(job=name)[:1]) for name in _jobs]
    return {run.job: run for run in MaintenanceRun.objects.filter(pk__in=newest)}


def running(name: str) -> MaintenanceRun | None:
    """The run of a job that goes on; a database that was restored knows of runs that ended."""
    lease = Lease.objects.filter(name=_lease(name), held_until__gte=clock.now()).first()
    if lease is None or leases.is_dead(lease.holder):
        return None
    return MaintenanceRun.objects.filter(job=name, status=Status.RUNNING).order_by("-pk").first()


def hand_to_worker(name: str) -> bool:
    """Have a worker run a job soon, for the console; False while the broker takes no messages."""
    try:
        current_app.send_task(TASK, args=[find(name).name, MaintenanceRun.Trigger.CONSOLE], ignore_result=True)
    except (OperationalError, OSError) as error:
        logger.warning("The broker took no message; the job %s was not started: %s", name, error)
        return False
    return True


def run(name: str, *, trigger: "MaintenanceRun.Trigger") -> MaintenanceRun | None:
    """Run a job now; returns its row, which also tells of a failure, or None while another process runs it.

    Raises UnknownJobError.
    """
    found = find(name)
    with leases.held(_lease(name), seconds=LEASE_SECONDS, renew_every_seconds=RENEW_EVERY_SECONDS) as is_ours:
        if not is_ours:
            logger.info("The job %s runs already.", name)
            return None
        _fail_interrupted(name)
        done = _run(found, trigger)
        if trigger != MaintenanceRun.Trigger.SCHEDULE:  # what runs by itself is told by its row alone
            audit.record("maintenance-run.started", target=done, detail=done.summary or done.error)
        return done


def _lease(job: str) -> str:
    return f"{LEASE_PREFIX}{job}"


def _fail_interrupted(name: str) -> None:
    """Close the rows of runs that died: nobody else renews the job's lease now."""
    interrupted = MaintenanceRun.objects.filter(job=name, status=Status.RUNNING)
    interrupted.update(
        status=Status.FAILED,
        finished_at=timezone.now(),
        error="The process that ran the job died, or was cut off from the database.",
    )


def _run(job: Job, trigger: "MaintenanceRun.Trigger") -> MaintenanceRun:
    row = MaintenanceRun.objects.create(job=job.name, trigger=trigger, started_at=timezone.now())
    row.before = figures(job.name)
    try:
        row.summary = job.work()[:300]
        row.status = Status.SUCCEEDED
    except Exception as error:
        logger.exception("The job %s failed.", job.name)
        row.error = f"{type(error).__name__}: {error}"
        row.status = Status.FAILED
    row.after = figures(job.name)  # also of work that was left half done
    row.finished_at = timezone.now()
    row.save(update_fields=["before", "after", "summary", "error", "status", "finished_at"])
    return row
