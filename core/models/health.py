"""How the parts were that everything depends on."""

from django.db import models


class HealthChange(models.Model):
    """A part was found in another state than before. What it is since the latest of these, it still is."""

    part = models.CharField(max_length=40, help_text="As core.ops.probes names it.")
    state = models.CharField(max_length=10, help_text="One of core.ops.probes.State; unknown: nobody looked.")
    detail = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["part", "-at"], name="health_of_part"),  # its history, and its latest change
        ]

    def __str__(self) -> str:
        return f"{self.part}: {self.state} since {self.at:%Y-%m-%d %H:%M}"
