"""What checks came to that run as maintenance jobs."""

from core.models import MaintenanceRun

LOOK_BACK = 20  # runs, among which one came to a verdict


def last(job: str, damage: type[Exception]) -> bool | None:
    """Tell whether the last run of a check found nothing wrong; None before the first one.

    damage: what it raises where something is. A run that failed for another reason came to no verdict.
    """
    failed = MaintenanceRun.Status.FAILED, damage.__name__
    runs = MaintenanceRun.objects.filter(job=job).order_by("-pk")
    for status, error in runs.values_list("status", "error")[:LOOK_BACK]:
        is_damaged = (status, error.partition(":")[0]) == failed
        if is_damaged or status == MaintenanceRun.Status.SUCCEEDED:
            return not is_damaged
    return None
