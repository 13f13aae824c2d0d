"""How much keys, people and teams may ask for, and how much they have."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from core.models.api_key import ApiKey
from core.models.base import UUIDModel
from core.models.user import Team

_AT_LEAST_ONE = [MinValueValidator(1)]


class Allowance(UUIDModel):
    """What one key, one person or one team may use. An empty limit is none, or the default of the settings."""

    key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, null=True, blank=True, verbose_name="API key")
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    team = models.OneToOneField(Team, on_delete=models.CASCADE, null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=_AT_LEAST_ONE,
        help_text="API requests within a minute. Empty: the default for keys and people, none for a team.",
    )
    tokens_per_day = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=_AT_LEAST_ONE,
        help_text="Tokens of prompts and answers within a day (UTC). Empty: the default for people, else none.",
    )
    tokens_per_month = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=_AT_LEAST_ONE,
        help_text="The same within a calendar month (UTC). Empty: the default for people, else none.",
    )
    concurrent_tasks = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=_AT_LEAST_ONE,
        help_text="Tasks that wait or run at a time. Empty: the default for people, else none.",
    )
    queue_share = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01), MaxValueValidator(1000)],
        help_text="Weight in the queues, beside other teams or the other people of the team. Empty: 1.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "limit"  # what the console calls it
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(key__isnull=False, user=None, team=None)
                | Q(key=None, user__isnull=False, team=None)
                | Q(key=None, user=None, team__isnull=False),
                name="allowance_is_for_one",
                violation_error_message="Choose exactly one: an API key, a user or a team.",
            ),
            models.CheckConstraint(
                condition=Q(queue_share=None) | Q(key=None, queue_share__gt=0),
                name="queue_shares_are_for_people_and_teams",
                violation_error_message="A key waits with the share of its user; set that one's.",
            ),
        ]

    def __str__(self) -> str:
        return f"Limits of {self.key or self.user or self.team}"


class LimitWindow(models.Model):
    """How often something was done since a window began; a window begins with the first time after the last one's end.

    Such counts are written with every request and worth nothing a minute later. So this table survives no crash on
    PostgreSQL (UNLOGGED), and on SQLite it stays empty: there a file of its own is used. See `core.access.limits`.
    """

    key = models.CharField(max_length=100, primary_key=True)
    count = models.BigIntegerField()
    ends_at = models.FloatField(help_text="Seconds since 1970.")

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class TokenUse(models.Model):
    """The tokens that a key, a person or a team used on a day (UTC), those reserved for unfinished work included."""

    pk = models.CompositePrimaryKey("subject", "day")
    subject = models.CharField(max_length=50, help_text='For example "user:" and the id.')
    day = models.DateField()
    tokens = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["day"], name="token_use_expiry"),  # the clean-up of old days
        ]

    def __str__(self) -> str:
        return f"{self.subject} on {self.day}: {self.tokens}"
