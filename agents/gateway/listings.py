"""What there is to call: models and agents, as Ollama and OpenAI list them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import unquote

from django.db.models import QuerySet

from agents.engine.chosen_model import client_for
from agents.gateway import direct, door
from agents.gateway.calls import Call
from agents.gateway.door import AGENT_PREFIX, ModelUnknown
from agents.gateway.failures import Refusal
from agents.gateway.formats import ollama_models, ollama_shared, openai_chat, openai_models
from agents.gateway.formats.base import PLAIN, RUNNING
from agents.gateway.routes import Handler, Table
from agents.kinds.model_call import ModelCall
from agents.models import Agent, Node, NodeModel
from agents.models.node import canonical_model_name
from agents.ollama.types import Details, InstalledModel, LoadedModel, ModelDetails
from core.access.principal import Principal
from core.models import Verb
from core.ops.threads import in_thread

# What is said where no node has told its version: clients look for features by it.
UNKNOWN_VERSION = "0.0.0"
NEVER = "0001-01-01T00:00:00Z"


def installed(principal: Principal) -> list[InstalledModel]:
    """List what a caller may call: agents, then models, the last seen first. What several nodes have stands once."""
    agents = [_as_model(agent) for agent in _agents(principal)]
    found: dict[str, InstalledModel] = {}
    for place in _places(principal).order_by("-seen_at", "name"):
        found.setdefault(place.name, _installed(place))
    return agents + list(found.values())


def loaded(principal: Principal) -> list[LoadedModel]:
    """List what is in the memory of any node."""
    return [
        LoadedModel(
            name=place.name,
            digest=place.digest,
            size_bytes=place.size_bytes,
            vram_bytes=place.vram_bytes,
            expires_at=place.loaded_until.isoformat() if place.loaded_until else NEVER,
            context_length=place.loaded_context_tokens or 0,
            details=_details(place),
        )
        for place in _places(principal).filter(is_loaded=True).order_by("name", "node__name")
    ]


def details(principal: Principal, name: str) -> ModelDetails:
    """Describe a model, as a node that has it does, or an agent. Raises ModelUnknown, OllamaError."""
    agent, model = door.find(principal, name)
    version = agent.live_version
    if not model and version is not None:
        told = ModelDetails(system=version.system_prompt, capabilities=("completion",))
        return replace(told, modified_at=version.created_at.isoformat())
    place = _places(principal).filter(name=canonical_model_name(model)).exclude(node__status=Node.Status.DOWN).first()
    if place is None:
        raise ModelUnknown(name)
    return client_for(place.node).show(place.name)


def server_version() -> str:
    """The oldest version among the nodes that are up: what all of them can do."""
    up = Node.objects.filter(kind=Node.Kind.OLLAMA, status=Node.Status.UP).exclude(server_version="")
    versions = list(up.values_list("server_version", flat=True))
    return min(versions, key=_version_key, default=UNKNOWN_VERSION)


def _version_key(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)


def _agents(principal: Principal) -> Iterable[Agent]:
    ready = Agent.objects.filter(team=principal.user.team_id, is_enabled=True, live_version__isnull=False)
    own = ready.exclude(kind=ModelCall.name).select_related("live_version").order_by("name")
    return (agent for agent in own if principal.may_use_agent(agent.name))


def _places(principal: Principal) -> QuerySet[NodeModel]:
    places = NodeModel.objects.filter(is_available=True, node__kind=Node.Kind.OLLAMA).select_related("node")
    if not principal.may_use_agent(direct.agent_for(principal.user).name):
        return places.none()
    names = principal.model_names
    return places.filter(name__in=map(canonical_model_name, names)) if names else places


def _installed(place: NodeModel) -> InstalledModel:
    return InstalledModel(
        name=place.name,
        digest=place.digest,
        size_bytes=place.size_bytes,
        modified_at=place.seen_at.isoformat() if place.seen_at else NEVER,
        details=_details(place),
        capabilities=tuple(place.capabilities),
    )


def _as_model(agent: Agent) -> InstalledModel:
    version = agent.live_version
    assert version is not None
    return InstalledModel(
        name=f"{AGENT_PREFIX}{agent.name}",
        digest=version.pk.hex,
        modified_at=version.created_at.isoformat(),
        details=Details(family="agent", families=("agent",), format="agent"),
        capabilities=("completion",),
    )


def _details(place: NodeModel) -> Details:
    return Details(
        family=place.family,
        families=(place.family,) if place.family else (),
        format="gguf",
        parameter_size=place.parameter_size,
        quantization_level=place.quantization,
    )


# Addresses ----------------------------------------------------------------------------------------------------------


def _listing(render: Callable[[Principal], bytes]) -> Handler:
    async def handler(call: Call) -> None:
        caller, body = await in_thread(door.guarded, call, _rendered, call, render)
        await call.answer(200, body, caller.headers)

    return handler


def _rendered(call: Call, render: Callable[[Principal], bytes]) -> tuple[door.Caller, bytes]:
    caller = door.enter(call, Verb.READ)
    return caller, render(caller.principal)


async def _openai_model(call: Call, name: str) -> None:
    name = unquote(name)

    def render(principal: Principal) -> bytes:
        wanted = name if name.startswith(AGENT_PREFIX) else canonical_model_name(name)
        row = next((row for row in installed(principal) if row.name == wanted), None)
        if row is None:
            raise Refusal(openai_chat.FORMAT.not_found(name))
        return openai_models.model(row)

    await _listing(render)(call)


async def _show(call: Call) -> None:
    body = await call.body()

    def render(principal: Principal) -> bytes:
        name = ollama_models.parse_show(ollama_shared.DIALECT.decode(body))
        try:
            return ollama_models.show(details(principal, name))
        except ModelUnknown as unknown:
            raise Refusal(ollama_shared.model_missing(unknown.name)) from unknown

    await _listing(render)(call)


async def _running(call: Call) -> None:
    await call.answer(200, RUNNING, content_type=PLAIN)


_tags = _listing(lambda principal: ollama_models.tags(installed(principal)))
_version = _listing(lambda _: ollama_models.version(server_version()))
ROUTES: Table = {
    "/": {"GET": _running, "HEAD": _running},
    "/api/tags": {"GET": _tags, "HEAD": _tags},
    "/api/version": {"GET": _version, "HEAD": _version},
    "/api/ps": {"GET": _listing(lambda principal: ollama_models.ps(loaded(principal)))},
    "/api/show": {"POST": _show},
    "/v1/models": {"GET": _listing(lambda principal: openai_models.models(installed(principal)))},
    "/v1/models/{name*}": {"GET": _openai_model},
}
