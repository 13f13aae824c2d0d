"""Agents, and the versions of what they are told."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction

from agents.models.node import canonical_model_name
from core.models import Team, User, UUIDModel

MAX_OPTIONS = 50


def validate_options(options: Any) -> None:
    """Check Ollama options: names with plain values. Their meaning is Ollama's to judge, by model."""
    if not isinstance(options, dict) or len(options) > MAX_OPTIONS:
        raise ValidationError(f"Options are an object with at most {MAX_OPTIONS} names.")
    for name, value in options.items():
        is_list_of_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not isinstance(value, bool | int | float | str) and not is_list_of_texts:
            raise ValidationError(f"The option {name!r} must be a number, a text, true, false or a list of texts.")
    context = options.get("num_ctx")
    if context is not None and (not isinstance(context, int) or isinstance(context, bool) or context < 1):
        raise ValidationError("The option 'num_ctx' must be a positive whole number.")


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
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="agents", db_index=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            # Serves the look-up of an agent by its name at every chat.
            models.UniqueConstraint(fields=["team", "name"], name="agent_name_once_per_team"),
        ]

    def __str__(self) -> str:
        return self.name

    def add_version(self, *, created_by: User, **content: Any) -> "AgentVersion":
        """Write down a new version, numbered after the last; it becomes live only by `make_live`.

        content: fields of AgentVersion. Raises ValidationError for content that is out of bounds.
        """
        with transaction.atomic():
            Agent.objects.select_for_update().get(pk=self.pk)  # two at once get two numbers
            last = self.versions.aggregate(models.Max("number"))["number__max"] or 0
            version = AgentVersion(agent=self, number=last + 1, created_by=created_by, **content)
            version.full_clean()
            version.save()
        return version

    def make_live(self, version: "AgentVersion") -> None:
        """Have new tasks use this version; running ones keep theirs."""
        if version.agent_id != self.pk:
            raise ValidationError("The version belongs to another agent.")
        self.live_version = version
        self.save(update_fields=["live_version"])


class AgentVersion(UUIDModel):
    """What an agent is told and allowed, written once. A change is a new version; to go back, make an old one live."""

    class Truncation(models.TextChoices):
        REJECT = "reject", "Refuse what does not fit"
        COMPACT = "compact", "Summarise the oldest turns"
        FLAG = "flag", "Drop the oldest turns and say so"

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="versions", db_index=False)
    number = models.PositiveIntegerField()
    model = models.CharField(
        max_length=200,
        blank=True,
        help_text="Model to use; empty: the default model, or whichever the nodes have.",
    )
    system_prompt = models.TextField(blank=True, max_length=50_000)
    options = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_options],
        help_text="Ollama options, such as temperature or num_ctx.",
    )
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
        constraints = [
            # Serves the list of an agent's versions, and the look-up of one by its number.
            models.UniqueConstraint(fields=["agent", "number"], name="version_number_once_per_agent"),
        ]

    def __str__(self) -> str:
        return f"{self.agent.name} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("A version never changes; make a new one.")
        self.model = canonical_model_name(self.model)
        super().save(*args, **kwargs)
