"""Model servers, and the models they have."""

from collections.abc import Collection

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from core.models import CircuitBreaker, GuardedModel

BUILTIN_MODEL = "builtin"


def default_slots() -> int:
    return settings.DEFAULT_NODE_SLOTS


def canonical_model_name(name: str) -> str:
    """Spell a model's name as nodes list it: lower case, with its tag ("TinyLlama" -> "tinyllama:latest").

    Source: Ollama's model names, [host/][namespace/]model[:tag], case-insensitive, tag defaulting to latest.
    """
    name = name.strip().lower()
    return name if name in ("", BUILTIN_MODEL) or ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


class Node(GuardedModel):
    """A server that runs models, or the built-in model, which needs none.

    Status tells whether the server could be reached when it was asked last: UNKNOWN -> UP <-> DOWN. Whether it is
    given tasks, its breaker decides alone, which learns from these looks and from every call
    (`agents.engine.node_health`): it is open where the server cannot be reached, and where it can and writes nothing.
    A draining node finishes what it runs and starts nothing.
    """

    class Kind(models.TextChoices):
        OLLAMA = "ollama", "Ollama server"
        BUILTIN = "builtin", "Built-in model"

    class Status(models.TextChoices):
        UNKNOWN = "unknown", "Not probed yet"
        UP = "up", "Up"
        DOWN = "down", "Down"

    breaker_kind = CircuitBreaker.Kind.NODE

    name = models.CharField(max_length=60, unique=True)  # also serves the lists, which are in its order
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.OLLAMA, editable=False)
    url = models.URLField(
        max_length=300, blank=True, help_text="Address of the Ollama server, such as http://127.0.0.1:11434."
    )
    is_draining = models.BooleanField(default=False, help_text="Finish what runs, start nothing new.")
    slots = models.PositiveSmallIntegerField(
        default=default_slots,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text="Tasks that one model of this node works on at a time. Ollama's own limit is OLLAMA_NUM_PARALLEL.",
    )
    max_loaded_models = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text="Models that fit into its memory at a time; Ollama's own limit is OLLAMA_MAX_LOADED_MODELS. Tasks "
        "are then ordered so that few have to be loaded. Empty: unknown, models are not held back.",
    )
    weight = models.FloatField(
        default=1,
        blank=True,
        validators=[MinValueValidator(0.01), MaxValueValidator(1000)],
        help_text="Of nodes that would be equally quick, the one with the greater weight is taken.",
    )
    connect_timeout_seconds = models.FloatField(default=5, validators=[MinValueValidator(0.1), MaxValueValidator(60)])
    first_byte_timeout_seconds = models.FloatField(
        default=330,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600)],
        help_text="The longest silence before an answer begins: the model may be loading.",
    )
    gap_timeout_seconds = models.FloatField(
        default=120,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600)],
        help_text="The longest silence between two pieces of an answer.",
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.UNKNOWN, editable=False)
    status_reason = models.CharField(max_length=300, blank=True, editable=False)
    status_since = models.DateTimeField(null=True, editable=False)
    probed_at = models.DateTimeField(null=True, editable=False)
    server_version = models.CharField(max_length=50, blank=True, editable=False)
    breaker = models.OneToOneField(CircuitBreaker, on_delete=models.PROTECT, related_name="node", editable=False)
    saturated_until = models.DateTimeField(
        null=True, editable=False, help_text="It said that its queue is full; until then others are preferred."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            # Serve the checks of a new node, and decide between two at the same moment.
            models.UniqueConstraint(fields=["url"], condition=~models.Q(url=""), name="one_node_per_url"),
            models.UniqueConstraint(fields=["kind"], condition=models.Q(kind="builtin"), name="one_builtin_node"),
            models.CheckConstraint(
                condition=models.Q(kind="builtin", url="") | (models.Q(kind="ollama") & ~models.Q(url="")),
                name="ollama_nodes_have_a_url",
            ),
            models.CheckConstraint(condition=models.Q(slots__gte=1), name="node_has_a_slot"),
            models.CheckConstraint(
                condition=models.Q(max_loaded_models=None) | models.Q(max_loaded_models__gte=1),
                name="node_holds_a_model",
            ),
            models.CheckConstraint(condition=models.Q(weight__gt=0), name="node_has_a_weight"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_builtin(self) -> bool:
        return self.kind == self.Kind.BUILTIN

    @property
    def takes_tasks(self) -> bool:
        return not self.is_draining and not self.breaker.is_shut


class NodeModelQuerySet(models.QuerySet["NodeModel"]):
    def serving(self, models: Collection[str]) -> "NodeModelQuerySet":
        """The places where these models could run now, by the models' canonical names."""
        return self.filter(name__in=models, is_available=True, node__is_draining=False)

    def working(self) -> "NodeModelQuerySet":
        """Those on nodes whose breakers let tasks through."""
        return self.exclude(node__breaker__in=CircuitBreaker.objects.shut())


class NodeModel(models.Model):
    """A model on a node. The grant locks this row: it stands for the slots of the model on that node."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="places", db_index=False)
    name = models.CharField(max_length=200)
    is_available = models.BooleanField(default=True)
    digest = models.CharField(max_length=100, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    family = models.CharField(max_length=60, blank=True)
    parameter_size = models.CharField(max_length=30, blank=True)
    quantization = models.CharField(max_length=30, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    is_loaded = models.BooleanField(default=False)
    loaded_context_tokens = models.PositiveIntegerField(
        null=True, help_text="Context window when it was last seen loaded."
    )
    pinned_context_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="The window that every call of this model on this node gets, so that none makes it load anew.",
    )
    loaded_until = models.DateTimeField(null=True)
    kept_until = models.DateTimeField(null=True, editable=False, help_text="Makes no room for others until then.")
    vram_bytes = models.BigIntegerField(default=0)
    service_seconds = models.FloatField(
        null=True, editable=False, help_text="How long its latest tasks held their slots, on average."
    )
    seen_at = models.DateTimeField(null=True)

    objects = NodeModelQuerySet.as_manager()

    class Meta:
        ordering = ["node", "name"]
        verbose_name = "model on a node"
        verbose_name_plural = "models on nodes"
        constraints = [
            # Serves the list of a node's models, and their look-up when a node is asked what it has.
            models.UniqueConstraint(fields=["node", "name"], name="model_once_per_node"),
        ]
        indexes = [
            # The grant asks which nodes have a model, several times a second.
            models.Index(fields=["name"], condition=models.Q(is_available=True), name="nodes_with_model"),
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.node.name}"
