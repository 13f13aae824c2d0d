"""Ollama's lists of models and what it tells of one: /api/tags, /api/ps, /api/show, /api/version.

Agents stand in them as models do, under the name "agent:NAME".
"""

from collections.abc import Iterable

from agents.gateway.formats.base import to_bytes
from agents.gateway.formats.ollama_shared import required_model
from agents.gateway.formats.reading import Fields
from agents.ollama.types import Details, InstalledModel, JsonObject, LoadedModel, ModelDetails


def version(number: str) -> bytes:
    return to_bytes({"version": number})


def tags(models: Iterable[InstalledModel]) -> bytes:
    """List what is installed, in the order given; Ollama's is newest first."""
    return to_bytes({"models": [_installed(model) for model in models]})


def ps(models: Iterable[LoadedModel]) -> bytes:
    """List what is loaded."""
    return to_bytes({"models": [_loaded(model) for model in models]})


def parse_show(body: JsonObject) -> str:
    """Read which model is asked for, under its present name or its older one. Raises CallRefused."""
    fields = Fields(body)
    fields.flag("verbose")
    older = fields.text("name")
    return required_model(fields if fields.has("model") else Fields({"model": older}))


def show(model: ModelDetails) -> bytes:
    """Tell all about a model. model_info is always there: the official client insists on it."""
    texts = {
        "license": model.license,
        "modelfile": model.modelfile,
        "parameters": model.parameters,
        "template": model.template,
        "system": model.system,
    }
    body: JsonObject = {name: text for name, text in texts.items() if text}
    body |= {"details": _details(model.details), "model_info": model.model_info}
    return to_bytes(body | _optional(capabilities=list(model.capabilities), modified_at=model.modified_at))


def _installed(model: InstalledModel) -> JsonObject:
    row = {"name": model.name, "model": model.name, "size": model.size_bytes, "digest": model.digest}
    more = _optional(modified_at=model.modified_at, capabilities=list(model.capabilities))
    return {**row, "details": _details(model.details), **more}


def _loaded(model: LoadedModel) -> JsonObject:
    row = {"name": model.name, "model": model.name, "size": model.size_bytes, "digest": model.digest}
    more = _optional(expires_at=model.expires_at, context_length=model.context_length)
    return {**row, "details": _details(model.details), "size_vram": model.vram_bytes, **more}


def _details(details: Details) -> JsonObject:
    return {
        "parent_model": details.parent_model,
        "format": details.format,
        "family": details.family,
        "families": list(details.families) or None,
        "parameter_size": details.parameter_size,
        "quantization_level": details.quantization_level,
    }


def _optional(**values: object) -> JsonObject:
    """What is known. An empty text in place of a moment breaks clients, and no list of abilities means unknown."""
    return {name: value for name, value in values.items() if value}
