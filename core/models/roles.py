"""Who may do what: one table. Django's groups are made from it (`core.access.roles`), the API asks it directly."""

from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    USER = "user", "User"
    OPERATOR = "operator", "Operator"
    ADMINISTRATOR = "administrator", "Administrator"


class Verb(models.TextChoices):
    """What can be done through the API. A key may be limited to some of what its person may do."""

    READ = "read", "Read"
    SUBMIT = "submit", "Give work to agents"
    OPERATE = "operate", "See and steer everybody's work"
    METRICS = "metrics", "Read the metrics"
    MODELS = "models", "Manage models on nodes"


VERBS: dict[str, frozenset[Verb]] = {
    Role.VIEWER: frozenset({Verb.READ}),
    Role.USER: frozenset({Verb.READ, Verb.SUBMIT}),
    Role.OPERATOR: frozenset(Verb),
    Role.ADMINISTRATOR: frozenset(Verb),
}

# What only a key does whose scope names it, whatever its person may: it fills and empties the disks of model servers.
NAMED_ONLY = frozenset({Verb.MODELS})

# Operators use the console. Administrators do everything there; what operators do not stands below.
STAFF = (Role.OPERATOR, Role.ADMINISTRATOR)
# Models, "app.model", whose rows only administrators see and change in the console: they decide who may do what.
ADMINISTRATORS_ONLY = frozenset(
    {
        "auth.group",
        "auth.permission",
        "core.auditentry",
        "core.device",
        "core.signingkey",
        "core.team",
        "core.tokenfamily",
        "core.user",
    }
)
