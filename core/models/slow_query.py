"""Statements that took long."""

from django.db import models

from core.models.base import UUIDModel


class SlowQuery(UUIDModel):
    """A statement that took longer than it should, each time that one part of the program asked it.

    text: without values, which may be secrets: `%s` stands for each. work: the route, task or thread that asked.
    """

    fingerprint = models.CharField(max_length=32, help_text="Of the text.")
    text = models.TextField()
    work = models.CharField("asked by", max_length=120)
    count = models.PositiveBigIntegerField(default=0)
    total_seconds = models.FloatField(default=0)
    worst_seconds = models.FloatField("worst", default=0)
    first_seen_at = models.DateTimeField("first seen")
    last_seen_at = models.DateTimeField("last seen")

    class Meta:
        verbose_name_plural = "slow queries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["fingerprint", "work"], name="slow_query_of_one_part"),
        ]
        indexes = [
            models.Index(fields=["last_seen_at"], name="slow_queries_by_age"),  # which were not seen for longest
        ]

    def __str__(self) -> str:
        return self.text if len(self.text) <= 80 else f"{self.text[:80]}…"

    @property
    def mean_seconds(self) -> float:
        return self.total_seconds / self.count if self.count else 0.0
