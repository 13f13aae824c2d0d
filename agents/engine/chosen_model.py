"""The model that a run was given: Ollama's or the built-in one, behind the interface that kinds use."""

import time
from collections.abc import Iterator
from typing import Any

from django.db import connection

from agents.builtin.answer import answer
from agents.models import Node, NodeModel
from agents.ollama.client import OllamaClient
from agents.ollama.types import ChatChunk, ChatRequest, JsonObject, Message, Timeouts
from core.net.http import Interrupt

# Ollama's own default on machines with little graphics memory.
DEFAULT_CONTEXT_TOKENS = 4096


def client_for(node: Node) -> OllamaClient:
    """Make a client with the node's own limits."""
    timeouts = Timeouts(
        connect=node.connect_timeout_seconds,
        first_byte=node.first_byte_timeout_seconds,
        gap=node.gap_timeout_seconds,
    )
    return OllamaClient(node.url, timeouts=timeouts)


class ChosenModel:
    """A model on a node, for one run; remembers what the receipt will tell.

    deadline: a time.monotonic() value after which no call goes on.
    """

    def __init__(self, place: NodeModel, options: JsonObject, interrupt: Interrupt, deadline: float) -> None:
        self.place = place
        self.node = place.node
        self.is_builtin = place.node.is_builtin
        self.context_tokens = _context_tokens(place, options)
        self._interrupt = interrupt
        self._deadline = deadline
        self.calls: list[ChatChunk] = []

    def chat(
        self, messages: tuple[Message, ...], *, options: JsonObject, schema: JsonObject | None = None
    ) -> Iterator[ChatChunk]:
        _release_connection()
        if self.is_builtin:
            chunks = _builtin_chunks(messages)
        else:
            request = ChatRequest(model=self.place.name, messages=messages, options=options, format=schema)
            chunks = client_for(self.node).chat(request, interrupt=self._interrupt, deadline=self._deadline)
        for chunk in chunks:
            if chunk.done:
                self.calls.append(chunk)
            yield chunk

    @property
    def prompt_tokens(self) -> int | None:
        return None if self.is_builtin else sum(call.prompt_tokens for call in self.calls)

    @property
    def output_tokens(self) -> int | None:
        return None if self.is_builtin else sum(call.output_tokens for call in self.calls)

    def notes(self) -> dict[str, Any]:
        """What the receipt tells of the model's work, durations in seconds as Ollama measured them."""
        eval_seconds = sum(call.eval_seconds for call in self.calls)
        output_tokens = self.output_tokens
        return {
            "node": self.node.name,
            "node_kind": self.node.kind,
            "context_tokens": self.context_tokens,
            "model_calls": len(self.calls),
            "load_seconds": round(sum(call.load_seconds for call in self.calls), 6),
            "prompt_eval_seconds": round(sum(call.prompt_eval_seconds for call in self.calls), 6),
            "eval_seconds": round(eval_seconds, 6),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": output_tokens,
            "tokens_per_second": round(output_tokens / eval_seconds, 2) if output_tokens and eval_seconds else None,
        }


def _release_connection() -> None:
    """Give a pooled database connection back before a long wait; SQLite's own stays with its thread."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


def _context_tokens(place: NodeModel, options: JsonObject) -> int:
    given = options.get("num_ctx")
    return given if isinstance(given, int) and given > 0 else place.loaded_context_tokens or DEFAULT_CONTEXT_TOKENS


def _builtin_chunks(messages: tuple[Message, ...]) -> Iterator[ChatChunk]:
    system = "\n".join(message.content for message in messages if message.role == "system")
    started = time.perf_counter()
    for piece in answer(messages[-1].content, system_prompt=system):
        yield ChatChunk(model="builtin", text=piece)
    seconds = time.perf_counter() - started
    yield ChatChunk(model="builtin", done=True, done_reason="stop", total_seconds=seconds, eval_seconds=seconds)
