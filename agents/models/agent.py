"""Agents, and the versions of what they are told."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from agents.models.node import canonical_model_name
from core.models import Team, UUIDModel


class Agent(UUIDModel):
    """Something that does one kind of work under a name. What it is told stands in its live version."""

    name = models.SlugField(max_length=60)
    kind = models.SlugField(max_length=40, help_text="What the agent can do.")
    description = models.CharField(max_length=300, blank=True)
    is_enabled = models.BooleanField(default=True, help_text="A disabled agent accepts no tasks.")
    live_version = models.ForeignKey(
        "AgentVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agents")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="agents")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            # Serves the look-up of an agent by its name at every chat.
            models.UniqueConstraint(fields=["team", "name"], name="agent_name_once_per_team"),
        ]

    def __str__(self) -> str:
        return self.name


class AgentVersion(UUIDModel):
    """What an agent is told and allowed, written once. A change is a new version; going back is making an old one live."""

    class Truncation(models.TextChoices):
        REJECT = "reject", "Refuse what does not fit"
        COMPACT = "compact", "Summarise the oldest turns"
        FLAG = "flag", "Drop the oldest turns and say so"

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    model = models.CharField(
        max_length=200,
        blank=True,
        help_text="Model to use; empty: the default model, or whichever the nodes have.",
    )
    system_prompt = models.TextField(blank=True, max_length=50_000)
    options = models.JSONField(default=dict, blank=True, help_text="Ollama options, such as temperature or num_ctx.")
    max_message_characters = models.PositiveIntegerField(
        default=100_000, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    max_output_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    deadline_seconds = models.PositiveIntegerField(
        default=900,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text="A task that is not finished so long after it was submitted expires.",
    )
    truncation = models.CharField(max_length=10, choices=Truncation, default=Truncation.FLAG)
    allows_builtin_fallback = models.BooleanField(
        default=False, help_text="Where no node has the model, the built-in model answers, marked as degraded."
    )
    note = models.CharField(max_length=200, blank=True, help_text="What changed and why.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["agent", "number"], name="version_number_once_per_agent")]

    def __str__(self) -> str:
        return f"{self.agent.name} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("A version never changes; make a new one.")
        self.model = canonical_model_name(self.model)
        super().save(*args, **kwargs)
