"""The models that the server pretends to hold."""

import copy
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.ollama_server import knobs
from tests.ollama_server.knobs import Knobs

GENERAL = ("completion", "tools", "thinking", "vision")
PLAIN = ("completion",)
EMBEDDING = ("embedding",)

# What a base name can do; any other name is a plain model.
CAPABILITIES = {"double": GENERAL, "embedder": EMBEDDING}
DEFAULT_MODELS = ("double", "tinyllama", "embedder")
# What a pull finds in the make-believe registry, beside the models that are installed at the start.
REGISTRY = {"double:latest", "tinyllama:latest", "embedder:latest", "pullable:latest"}

CONTEXT_LENGTH = 4096


def full_name(name: str) -> str:
    """Complete a name as Ollama does: lower case, with the tag "latest" if it has none."""
    name = name.lower()
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC."""
    return (moment or datetime.now(UTC)).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class Model:
    """An installed model."""

    name: str
    capabilities: tuple[str, ...]
    knobs: Knobs = knobs.NONE
    system: str = ""
    template: str = "{{ .Prompt }}"
    parent: str = ""
    size_bytes: int = 637_700_138
    modified_at: str = field(default_factory=timestamp)

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.parent or self.name).encode()).hexdigest()

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    def details(self) -> dict[str, object]:
        return {
            "parent_model": self.parent,
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "1B",
            "quantization_level": "Q4_0",
        }

    def row(self, name: str) -> dict[str, object]:
        """What tags and ps say of it, under the name that it was asked for by."""
        return {
            "name": name,
            "model": name,
            "size": self.size_bytes,
            "digest": self.digest,
            "details": self.details(),
        }


def make(name: str) -> Model:
    """A model of this name, with what its base name can do."""
    base = name.lower().split(":")[0].rsplit("/", 1)[-1]
    return Model(full_name(name), CAPABILITIES.get(base, PLAIN))


class Catalogue:
    """The installed models and the uploaded blobs."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._models: dict[str, Model] = {}
        self.blobs: set[str] = set()
        for name in names:
            self.install(name)

    def install(self, name: str) -> Model:
        model = make(name)
        self.add(model)
        return model

    def add(self, model: Model) -> None:
        self._models[model.name] = model

    def all(self) -> list[Model]:
        """Newest first."""
        return sorted(self._models.values(), key=lambda model: model.modified_at, reverse=True)

    def find(self, name: str) -> Model | None:
        """Find an installed model; a tag made of knobs stands for the same model at another pace."""
        full = full_name(name)
        if full in self._models:
            return self._models[full]
        base, _, tag = full.rpartition(":")
        given = knobs.parse(tag)
        latest = self._models.get(f"{base}:latest")
        if given is None or latest is None:
            return None
        model = copy.copy(latest)
        model.name, model.knobs, model.parent = full, given, latest.name
        return model

    def copy(self, source: Model, destination: str) -> None:
        model = copy.copy(source)
        model.name, model.parent, model.modified_at = full_name(destination), source.name, timestamp()
        self._models[model.name] = model

    def delete(self, name: str) -> bool:
        return self._models.pop(full_name(name), None) is not None
