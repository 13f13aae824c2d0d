"""Which model answers, and on which node."""

from collections.abc import Mapping, Sequence

from django.conf import settings

from agents.engine.errors import ModelNotAvailable
from agents.models import AgentVersion, Node, NodeModel
from agents.models.node import BUILTIN_MODEL, canonical_model_name


def resolve_model(version: AgentVersion) -> str:
    """Name the model that a new task of this version runs on.

    The version's own model, or, where it names none, the default model or whichever the nodes have. Where every node
    that has it is down, or none has it, the built-in model takes its place if the version allows that.
    Raises ModelNotAvailable.
    """
    places = list(
        NodeModel.objects.filter(is_available=True)
        .select_related("node")
        .order_by("-is_loaded", "-node__status", "name")
    )
    named = version.model or _any_model(places)
    having = [place for place in places if place.name == named]
    if any(place.node.status != Node.Status.DOWN for place in having):
        return named
    if version.allows_builtin_fallback or not version.model:
        return BUILTIN_MODEL
    if having:
        return named
    raise ModelNotAvailable(version.model)


def _any_model(places: Sequence[NodeModel]) -> str:
    """The default model where a living node has it, else any that can answer, else the built-in one."""
    living = [
        place.name
        for place in places
        if place.can_complete and not place.node.is_builtin and place.node.status != Node.Status.DOWN
    ]
    default = canonical_model_name(settings.DEFAULT_MODEL)
    return default if default in living else next(iter(living), BUILTIN_MODEL)


def choose(places: Sequence[NodeModel], running: Mapping[int, int]) -> NodeModel | None:
    """Pick the place for one more task: alive, model loaded, least busy; None where every slot is taken.

    running: how many tasks each place (by key) works on.
    """
    free = [place for place in places if running.get(place.pk, 0) < place.node.slots]
    return min(
        free,
        key=lambda place: (
            place.node.status == Node.Status.DOWN,
            not place.is_loaded,
            running.get(place.pk, 0) / place.node.slots,
            place.node.name,
        ),
        default=None,
    )
