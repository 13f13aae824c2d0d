"""Pieces of an answer as events carry them: "thinking", "text", "tool_calls", "logprobs", without what is empty."""

from collections.abc import Iterable

from agents.ollama.protocol import parse_tool_call, tool_call_body
from agents.ollama.types import ChatChunk, JsonObject


def piece_of(chunk: ChatChunk) -> JsonObject:
    """What a chunk of a model's answer carries."""
    piece: JsonObject = {}
    if chunk.thinking:
        piece["thinking"] = chunk.thinking
    if chunk.text:
        piece["text"] = chunk.text
    if chunk.tool_calls:
        piece["tool_calls"] = [tool_call_body(call) for call in chunk.tool_calls]
    if chunk.logprobs:
        piece["logprobs"] = list(chunk.logprobs)
    return piece


def chunk_of(piece: JsonObject, *, model: str = "") -> ChatChunk:
    """The chunk that carries what a piece does."""
    return ChatChunk(
        model=model,
        thinking=piece.get("thinking", ""),
        text=piece.get("text", ""),
        tool_calls=tuple(map(parse_tool_call, piece.get("tool_calls", ()))),
        logprobs=tuple(piece.get("logprobs", ())),
    )


def join(pieces: Iterable[JsonObject]) -> JsonObject:
    """Make one piece of many: texts and lists, each in their order."""
    gathered: dict[str, list[str | list[JsonObject]]] = {}
    for piece in pieces:
        for name, value in piece.items():
            gathered.setdefault(name, []).append(value)
    return {name: _concatenated(values) for name, values in gathered.items()}


def _concatenated(values: list[str | list[JsonObject]]) -> str | list[JsonObject]:
    texts = [value for value in values if isinstance(value, str)]
    return "".join(texts) if texts else [item for value in values if isinstance(value, list) for item in value]
