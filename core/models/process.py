"""Which processes serve."""

from django.db import models


class Process(models.Model):
    """A process that serves, as it told of itself at its start. Its lease tells when it was heard of last."""

    class Role(models.TextChoices):
        WEB = "web", "Web"
        WORKER = "worker", "Worker"
        BEAT = "beat", "Scheduler"

    identity = models.CharField(max_length=200, primary_key=True, help_text="As core.ops.processes writes it.")
    role = models.CharField(max_length=10, choices=Role)
    threads = models.PositiveIntegerField(null=True, help_text="How much it does at a time; empty: one thing.")
    version = models.CharField(max_length=30)
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.role} {self.identity}"
