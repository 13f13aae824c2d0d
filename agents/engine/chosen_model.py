"""The model that a run was given: Ollama's or the built-in one, behind the interface that kinds use."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from django.db import connection

from agents.builtin.answer import answer
from agents.engine import node_health
from agents.kinds.base import CannotAnswer
from agents.models import Node, NodeModel
from agents.ollama.async_client import AsyncOllamaClient
from agents.ollama.client import OllamaClient
from agents.ollama.types import (
    ChatChunk,
    ChatRequest,
    EmbedRequest,
    EmbedResult,
    GenerateRequest,
    JsonObject,
    Message,
    Timeouts,
)
from core.net.interrupts import Interrupt

# Ollama's own default on machines with little graphics memory.
DEFAULT_CONTEXT_TOKENS = 4096

RequestT = TypeVar("RequestT", bound=ChatRequest | GenerateRequest | EmbedRequest)


def client_for(node: Node) -> OllamaClient:
    """Make a client with the node's own limits."""
    return OllamaClient(node.url, timeouts=_timeouts(node))


def async_client_for(node: Node) -> AsyncOllamaClient:
    """Make a client for an event loop, with the node's own limits."""
    return AsyncOllamaClient(node.url, timeouts=_timeouts(node))


def _timeouts(node: Node) -> Timeouts:
    return Timeouts(
        connect=node.connect_timeout_seconds,
        first_byte=node.first_byte_timeout_seconds,
        gap=node.gap_timeout_seconds,
    )


class ModelAtWork:
    """A model on a node during one run; remembers what the receipt will tell.

    options: those of the task's version.
    """

    def __init__(self, place: NodeModel, options: JsonObject) -> None:
        self.place = place
        self.node = place.node
        self.is_builtin = place.node.is_builtin
        pinned, asked = place.pinned_context_tokens, options.get("num_ctx")
        self._given_context = pinned or (asked if isinstance(asked, int) and asked > 0 else None)
        known = self._given_context or place.loaded_context_tokens
        self.knows_context = known is not None
        self.context_tokens = known or DEFAULT_CONTEXT_TOKENS
        self.calls: list[ChatChunk] = []

    def pinned(self, request: RequestT) -> RequestT:
        """The request with the window that operators chose, or none: what another call chose may not count."""
        if self._given_context is None and "num_ctx" not in request.options:
            return request
        options = {name: value for name, value in request.options.items() if name != "num_ctx"}
        if self._given_context is not None:
            options["num_ctx"] = self._given_context
        return replace(request, options=options)

    def noted(self, result: EmbedResult) -> EmbedResult:
        """Remember what an embedding took."""
        self.calls.append(
            ChatChunk(
                done=True,
                prompt_tokens=result.prompt_tokens,
                total_seconds=result.total_seconds,
                load_seconds=result.load_seconds,
            )
        )
        return result

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


class ChosenModel(ModelAtWork):
    """The model of a run that has a thread of its own.

    deadline: a time.monotonic() value after which no call goes on.
    """

    def __init__(self, place: NodeModel, options: JsonObject, interrupt: Interrupt, deadline: float) -> None:
        super().__init__(place, options)
        self._interrupt = interrupt
        self._deadline = deadline

    def chat(
        self, messages: tuple[Message, ...], *, options: JsonObject, schema: JsonObject | None = None
    ) -> Iterator[ChatChunk]:
        return self.ask(ChatRequest(model=self.place.name, messages=messages, options=options, format=schema))

    def ask(self, request: ChatRequest | GenerateRequest) -> Iterator[ChatChunk]:
        release_connection()
        ear = node_health.ear_for(self.node)
        for chunk in builtin_chunks(request) if self.is_builtin else self._chunks(self.pinned(request)):
            ear.heard()
            if chunk.done:
                self.calls.append(chunk)
            yield chunk

    def _chunks(self, request: ChatRequest | GenerateRequest) -> Iterator[ChatChunk]:
        client = client_for(self.node)
        if isinstance(request, ChatRequest):
            return client.chat(request, interrupt=self._interrupt, deadline=self._deadline)
        return client.generate(request, interrupt=self._interrupt, deadline=self._deadline)

    def embed(self, request: EmbedRequest) -> EmbedResult:
        if self.is_builtin:
            raise cannot_embed()
        release_connection()
        result = client_for(self.node).embed(self.pinned(request), interrupt=self._interrupt, deadline=self._deadline)
        return self.noted(result)


def release_connection() -> None:
    """Give a pooled database connection back before a long wait; SQLite's own stays with its thread."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


def cannot_embed() -> CannotAnswer:
    return CannotAnswer("cannot-embed", "The built-in model makes no embeddings.")


def builtin_chunks(request: ChatRequest | GenerateRequest) -> Iterator[ChatChunk]:
    """Answer without a model server."""
    started = time.perf_counter()
    question, system = _question(request)
    for piece in answer(question, system_prompt=system):
        yield ChatChunk(model="builtin", text=piece)
    seconds = time.perf_counter() - started
    yield ChatChunk(model="builtin", done=True, done_reason="stop", total_seconds=seconds, eval_seconds=seconds)


def _question(request: ChatRequest | GenerateRequest) -> tuple[str, str]:
    """What is asked, and what the system prompt says."""
    if isinstance(request, GenerateRequest):
        return request.prompt, request.system
    system = "\n".join(message.content for message in request.messages if message.role == "system")
    return (request.messages[-1].content if request.messages else ""), system
