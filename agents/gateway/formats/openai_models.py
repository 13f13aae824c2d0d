"""GET /v1/models and /v1/models/{id} of OpenAI."""

from collections.abc import Iterable
from datetime import UTC, datetime

from agents.gateway.formats.base import to_bytes
from agents.ollama.types import InstalledModel, JsonObject

AGENT_PREFIX = "agent:"


def models(rows: Iterable[InstalledModel]) -> bytes:
    """List models and agents. Without any the list is empty, where Ollama's own is null and trips clients up."""
    return to_bytes({"object": "list", "data": [_body(row) for row in rows]})


def model(row: InstalledModel) -> bytes:
    """Tell of one."""
    return to_bytes(_body(row))


def _body(row: InstalledModel) -> JsonObject:
    return {"id": row.name, "object": "model", "created": _seconds(row.modified_at), "owned_by": _owner(row.name)}


def _owner(name: str) -> str:
    """The namespace of a name, [host/][namespace/]model[:tag], which is "library" unless it says otherwise."""
    if name.startswith(AGENT_PREFIX):
        return "sutazai"
    parts = name.split("/")
    return parts[-2] if len(parts) > 1 else "library"


def _seconds(moment: str) -> int:
    """Seconds since 1970 of a moment as model servers write it; 0 if it is none."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return 0
    return max(0, int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()))
