"""Which model answers, and on which node."""

from collections.abc import Collection, Mapping, Sequence

from django.conf import settings

from agents.engine import remembered, statements
from agents.engine.errors import ModelNotAvailable, ModelUnreachable
from agents.engine.statements import KnownModel, Place
from agents.models import AgentVersion, NodeModel
from agents.models.node import BUILTIN_MODEL, canonical_model_name


def resolve_model(version: AgentVersion, *, named: str = "") -> str:
    """Name the model that a new task of this version runs on.

    The model that the asker names, else the version's own, else the default model or whichever the nodes have. Where
    no node has it, or none whose breaker lets tasks through, the built-in model takes its place if the version allows
    that. Raises ModelNotAvailable, ModelUnreachable.
    """
    models = remembered.models()
    wanted = canonical_model_name(named) or version.model
    chosen = wanted or _any_model(models)
    having = [model for model in models if model.name == chosen]
    if any(not model.is_shut for model in having):
        return chosen
    allows_builtin = version.allows_builtin_fallback or not wanted
    if allows_builtin and not any(model.is_builtin and model.is_shut for model in models):
        return BUILTIN_MODEL
    if having:
        raise ModelUnreachable(chosen)
    raise ModelNotAvailable(chosen)


def unreachable(wanted: Collection[str]) -> set[str]:
    """Tell which of these models no node has now whose breaker lets tasks through."""
    return set(wanted) - {model.name for model in statements.known_models() if not model.is_shut}


def _any_model(models: Sequence[KnownModel]) -> str:
    """The default model where a living node has it, else any that can answer, else the built-in one."""
    living = [model.name for model in models if model.can_complete and not model.is_builtin and not model.is_shut]
    default = canonical_model_name(settings.DEFAULT_MODEL)
    return default if default in living else next(iter(living), BUILTIN_MODEL)


def is_same_everywhere(model: str) -> bool:
    """Tell whether all nodes mean the same by a model's name: vectors of two models cannot be compared."""
    return NodeModel.objects.serving([model]).order_by().values("digest").distinct().count() <= 1


def choose(places: Sequence[Place], running: Mapping[int, int]) -> Place | None:
    """Pick the place for one more task; None where no slot is free.

    Its node not saturated, the model loaded, the least expected wait, the most weight.

    running: how many tasks each place (by key) works on.
    """
    free = [place for place in places if running.get(place.id, 0) < place.slots]
    if len(free) <= 1:
        return free[0] if free else None
    usual = _usual_seconds(places)
    return min(
        free,
        key=lambda place: (
            place.is_saturated,
            not place.is_loaded,
            running.get(place.id, 0) / place.slots * (place.service_seconds or usual),
            -place.weight,
            place.node,
        ),
    )


def _usual_seconds(places: Sequence[Place]) -> float:
    """How long a task is taken to hold a slot where nobody measured it."""
    measured = [place.service_seconds for place in places if place.service_seconds]
    return sum(measured) / len(measured) if measured else 1.0
