"""What agents can do: one module, one class for each kind, named here."""

from agents.kinds.base import Kind
from agents.kinds.chat import Chat
from agents.kinds.model_call import ModelCall
from agents.kinds.text_analysis import TextAnalysis

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Chat(), TextAnalysis(), ModelCall())}


def choices() -> list[tuple[str, str]]:
    """The kinds as a form offers them."""
    return [(kind.name, kind.label) for kind in KINDS.values()]
