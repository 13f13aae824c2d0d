"""What was found to be wrong, and for what nobody wants to be told."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from core.models.base import UUIDModel


def alert_about(labels: Mapping[str, str]) -> str:
    """Write labels as what tells an alert from others of its rule: "pool=database, process=web"."""
    return ", ".join(f"{name}={labels[name]}" for name in sorted(labels))[:200]


class AlertQuerySet(models.QuerySet["Alert"]):
    def firing(self) -> Self:
        return self.filter(resolved_at=None)


class Alert(UUIDModel):
    """Once that something was wrong: FIRING -> RESOLVED. Only `core.ops.alerts.watch` moves it.

    People are told once when it fires, unless it is silenced, and those who were told when it is resolved. Whoever
    acknowledges it looks after it.
    """

    class Severity(models.TextChoices):
        CRITICAL = "critical", "Critical"
        WARNING = "warning", "Warning"

    name = models.SlugField(max_length=60, db_index=False, help_text="The name of a rule (`core.ops.alerts`).")
    labels = models.JSONField(default=dict, help_text="What it is about, by name.")
    about = models.CharField(max_length=200, blank=True, help_text="The labels, as `alert_about` writes them.")
    title = models.CharField("alert", max_length=200)
    severity = models.CharField(max_length=10, choices=Severity)
    value = models.FloatField(null=True, help_text="The latest while it fires.")
    limit = models.FloatField(null=True)
    since = models.DateTimeField(help_text="When it became true; it fires when that has lasted.")
    fired_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True, help_text="When people were told that it fires.")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=300, blank=True, help_text="Of whoever acknowledged it.")

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            # What is wrong fires once. Serves the watch, and all who ask what fires.
            models.UniqueConstraint(fields=["name", "about"], condition=Q(resolved_at=None), name="one_firing_alert"),
            models.CheckConstraint(
                condition=Q(acknowledged_at=None, acknowledged_by="")
                | (Q(acknowledged_at__isnull=False) & ~Q(acknowledged_by="")),
                name="acknowledged_alerts_have_a_person",
            ),
        ]
        indexes = [
            models.Index(fields=["name", "-id"], name="alerts_of_rule"),  # a rule's history
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_firing(self) -> bool:
        return self.resolved_at is None


class AlertSilenceQuerySet(models.QuerySet["AlertSilence"]):
    def holding(self, now: datetime) -> Self:
        return self.filter(until__gt=now)


class AlertSilence(UUIDModel):
    """Nobody is told of an alert until a moment: it fires, and is shown as silenced."""

    name = models.SlugField(max_length=60, db_index=False)
    about = models.CharField(max_length=200, blank=True, help_text="Empty: whatever the alert is about.")
    reason = models.CharField(max_length=300)
    by = models.CharField(max_length=150)
    since = models.DateTimeField()
    until = models.DateTimeField()

    objects = AlertSilenceQuerySet.as_manager()

    class Meta:
        ordering = ["until"]
        verbose_name = "silence"
        constraints = [
            # Serves the look-up of those of an alert.
            models.UniqueConstraint(fields=["name", "about"], name="one_silence_per_alert"),
            models.CheckConstraint(condition=Q(until__gt=models.F("since")), name="silences_last"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.about})" if self.about else self.name

    def covers(self, alert: Alert) -> bool:
        return self.name == alert.name and self.about in ("", alert.about)
