"""Which backups there are."""

from django.db import models

from core.models.base import UUIDModel


class Backup(UUIDModel):
    """An archive in the folder of backups, as it was found last; the file itself is the truth.

    Its verdict is that of its last drill: none -> PASSED | FAILED, and again at each drill.
    """

    class Verdict(models.TextChoices):
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=100, unique=True, help_text="The file's name.")
    created_at = models.DateTimeField()
    version = models.CharField(max_length=30, blank=True, help_text="The version of the program that made it.")
    size_bytes = models.BigIntegerField()
    duration_seconds = models.FloatField(null=True, blank=True)
    rows = models.BigIntegerField(default=0, help_text="Of all tables together.")
    has_secrets = models.BooleanField(default=False)
    missing_since = models.DateTimeField(null=True, blank=True, help_text="Since when the file is gone.")

    drilled_at = models.DateTimeField(null=True, blank=True)
    verdict = models.CharField(max_length=10, choices=Verdict, blank=True)
    drill_seconds = models.FloatField(null=True, blank=True, help_text="What it took to restore and check it.")
    report = models.TextField(blank=True, help_text="What the last drill found.")

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["-created_at"], name="backups_by_age"),  # the list, and the age of the newest
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_good(self) -> bool:
        """Whether it can be restored, as far as is known."""
        return self.missing_since is None and self.verdict != self.Verdict.FAILED
