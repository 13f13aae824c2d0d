"""Clients of both kinds, for tests of what they do alike."""

from collections.abc import Iterator
from typing import Any

from agents.ollama.async_client import AsyncOllamaClient
from agents.ollama.client import OllamaClient
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest, EmbedResult, GenerateRequest
from tests.pools import LoopPool


class LoopClient:
    """The event loop's client, for tests that know threads only."""

    def __init__(self, url: str, *, pool: LoopPool, **options: Any) -> None:
        self.loop = pool.loop
        self.real = AsyncOllamaClient(url, pool=pool.real, **options)

    def chat(self, request: ChatRequest, **options: Any) -> Iterator[ChatChunk]:
        return self.loop.iterate(self.real.chat(request, **options))

    def generate(self, request: GenerateRequest, **options: Any) -> Iterator[ChatChunk]:
        return self.loop.iterate(self.real.generate(request, **options))

    def embed(self, request: EmbedRequest, **options: Any) -> EmbedResult:
        return self.loop.run(self.real.embed(request, **options))


Caller = OllamaClient | LoopClient
