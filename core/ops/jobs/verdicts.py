"""What checks came to that run as maintenance jobs."""

import uuid

from django.db.models import Q

from core.models import MaintenanceRun

Status = MaintenanceRun.Status

_damage: dict[str, type[Exception]] = {}


def register(job: str, damage: type[Exception]) -> None:
    """Name a job that checks something. damage: what it raises where something is wrong."""
    _damage[job] = damage


def last(job: str) -> bool | None:
    """Tell whether the last run of a check found nothing wrong; None before the first one."""
    run = _last(job)
    return None if run is None else run.status == Status.SUCCEEDED


def found_damage(run: MaintenanceRun) -> bool:
    """Tell whether a run of a check found something wrong, instead of not coming to its end."""
    return run.status == Status.FAILED and run.error.startswith(f"{_damage[run.job].__name__}:")


def kept() -> list[uuid.UUID]:
    """The runs that tell what holds until the next verdict, however old they are."""
    runs = [_last(job) for job in _damage]
    return [run.pk for run in runs if run is not None]


def _last(job: str) -> MaintenanceRun | None:
    """The last run of a check that came to a verdict; one that failed for another reason came to none."""
    is_damaged = Q(status=Status.FAILED, error__startswith=f"{_damage[job].__name__}:")
    runs = MaintenanceRun.objects.filter(is_damaged | Q(status=Status.SUCCEEDED), job=job)
    return runs.order_by("-pk").first()
