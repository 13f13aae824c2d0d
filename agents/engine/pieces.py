"""Pieces of an answer as events carry them: "thinking", "text", "tool_calls", "logprobs", without what is empty."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

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
    pieces = list(pieces)
    names = dict.fromkeys(chain.from_iterable(pieces))
    return {name: _concatenated([piece[name] for piece in pieces if name in piece]) for name in names}


def _concatenated(values: list[Any]) -> str | list[JsonObject]:
    """Join texts, or lists."""
    return "".join(values) if isinstance(values[0], str) else list(chain.from_iterable(values))
