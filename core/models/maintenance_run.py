"""What housekeeping did."""

from django.db import models

from core.models.base import UUIDModel


class MaintenanceRun(UUIDModel):
    """One run of a maintenance job: RUNNING -> SUCCEEDED | FAILED."""

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "Schedule"
        CONSOLE = "console", "Console"
        COMMAND = "command", "Command line"

    job = models.CharField(max_length=60)
    trigger = models.CharField(max_length=10, choices=Trigger)
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    before = models.JSONField(default=dict, blank=True, help_text="Figures before the run, by name.")
    after = models.JSONField(default=dict, blank=True, help_text="Figures after the run, by name.")
    summary = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["job", "-id"], name="maintenance_runs_of_job"),  # "when did this job last run?"
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.started_at:%Y-%m-%d %H:%M}"

    @property
    def duration_seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None
