"""What the metrics say of the checks of the audit log."""

import pytest
from django.utils import timezone

from core.models import MaintenanceRun
from core.ops.jobs import audit as jobs

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def checked(status: str, error: str = "", job: str = jobs.VERIFY) -> None:
    MaintenanceRun.objects.create(
        job=job, trigger="schedule", status=status, error=error, started_at=timezone.now(), finished_at=timezone.now()
    )


def verdict() -> list[float]:
    (family,) = jobs.verdict_metrics()
    return [sample.value for sample in family.samples]


def test_it_tells_the_verdict_of_the_last_check_that_came_to_one() -> None:
    assert verdict() == []
    checked("succeeded")
    assert verdict() == [1]
    checked("failed", f"{jobs.LogDamagedError.__name__}: Entry 3 was altered.")
    assert verdict() == [0]
    checked("failed", "OperationalError: database is locked")
    checked("succeeded", job="vacuum_database")
    checked("running")
    assert verdict() == [0]
    checked("succeeded")
    assert verdict() == [1]
