"""Ollama's calls that change which models there are: /api/pull, /api/push, /api/create, /api/copy, /api/delete."""

from dataclasses import dataclass, field

from agents.gateway.formats.base import to_bytes
from agents.gateway.formats.openai_models import AGENT_PREFIX
from agents.gateway.formats.reading import MAX_NAME_CHARACTERS, CallRefused, Fields
from agents.ollama.types import JsonObject, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that goes step by step. settings: what a model is made of. streams: whether all steps are told."""

    model: str
    insecure: bool = False
    settings: JsonObject = field(default_factory=dict)
    streams: bool = True


def parse_pull(body: JsonObject) -> Change:
    """Raises CallRefused, as all below do."""
    fields = Fields(body)
    return Change(
        model=_new_name(_model(fields), "invalid model name"),
        insecure=bool(fields.flag("insecure")),
        streams=_streams(fields),
    )


def parse_push(body: JsonObject) -> Change:
    fields = Fields(body)
    return Change(model=_known_name(fields), insecure=bool(fields.flag("insecure")), streams=_streams(fields))


def parse_create(body: JsonObject) -> Change:
    """Read how a model is to be made. What it is made of is the node's to check: a newer one may know more."""
    fields = Fields(body)
    fields.text("from")
    settings = {name: value for name, value in body.items() if name not in {"model", "name", "stream"}}
    model = _new_name(_model(fields), "invalid model name")
    return Change(model=model, settings=settings, streams=_streams(fields))


def parse_copy(body: JsonObject) -> tuple[str, str]:
    """Read a model's name, and its second name."""
    fields = Fields(body)
    source, destination = fields.text("source"), fields.text("destination")
    if not _is_name(source):
        raise CallRefused(f'source "{source[:MAX_NAME_CHARACTERS]}" is invalid', param="source")
    return source, _new_name(destination, f'destination "{destination[:MAX_NAME_CHARACTERS]}" is invalid')


def parse_delete(body: JsonObject) -> str:
    return _known_name(Fields(body))


def progress(step: Progress) -> bytes:
    """Write a step. Counts of zero are left out, as Ollama does."""
    told: JsonObject = {"status": step.status}
    more = {"digest": step.digest, "total": step.total_bytes, "completed": step.completed_bytes}
    return to_bytes(told | {name: value for name, value in more.items() if value})


def _model(fields: Fields) -> str:
    """A model's name, under its present key or its older one."""
    return fields.text("model") or fields.text("name")


def _known_name(fields: Fields) -> str:
    name = _model(fields)
    if not name:
        raise CallRefused("model is required", param="model")
    if not _is_name(name):
        raise CallRefused("invalid model name", param="model")
    return name


def _new_name(name: str, refusal: str) -> str:
    """A name that a model may get: nobody could call one that is named as agents are."""
    if not _is_name(name) or name.lower().startswith(AGENT_PREFIX):
        raise CallRefused(refusal, param="model")
    return name


def _is_name(name: str) -> bool:
    """Whether a text can be a model's name; the node looks closer."""
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and " " not in name


def _streams(fields: Fields) -> bool:
    return fields.flag("stream") is not False
