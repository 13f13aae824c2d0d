"""The Ollama client of the event loop, for the calls that somebody waits for: chat, generate and embed."""

from collections.abc import AsyncIterator

from agents.ollama import exchange, protocol
from agents.ollama.exchange import Streamed
from agents.ollama.protocol import ItemT
from agents.ollama.types import (
    ChatChunk,
    ChatRequest,
    EmbedRequest,
    EmbedResult,
    GenerateRequest,
    JsonObject,
    Timeouts,
)
from core.net import addresses, async_http, places
from core.net.async_http import AsyncHttpPool, AsyncHttpResponse


class AsyncOllamaClient:
    """Speaks to one Ollama server as `OllamaClient` does. Cheap to make, anywhere; used on an event loop.

    Who cancels the task that waits for an answer, or closes the iterator, frees the model's slot at once.
    """

    def __init__(self, base_url: str, *, timeouts: Timeouts | None = None, pool: AsyncHttpPool | None = None) -> None:
        self.base_url = protocol.base_url(base_url)
        self.timeouts = timeouts or Timeouts()
        self._given_pool = pool

    def chat(self, request: ChatRequest, *, deadline: float | None = None) -> AsyncIterator[ChatChunk]:
        """Stream the model's next message; the last chunk, and only it, has `done`, counts and durations.

        deadline: a time.monotonic() value.
        Raises any OllamaError; one raised after text was handed out has `output_began`.
        Source: POST /api/chat.
        """
        return self._stream(exchange.chat(request), deadline)

    def generate(self, request: GenerateRequest, *, deadline: float | None = None) -> AsyncIterator[ChatChunk]:
        """Stream the continuation of one prompt, as chat() does. Source: POST /api/generate."""
        return self._stream(exchange.generate(request), deadline)

    async def embed(self, request: EmbedRequest, *, deadline: float | None = None) -> EmbedResult:
        """Turn texts into unit-length vectors, one per input. Source: POST /api/embed."""
        with exchange.named_failures():
            async with await self._open(exchange.EMBED_PATH, protocol.embed_body(request), deadline) as response:
                return exchange.embedded(request, await response.read(exchange.MAX_ANSWER_BYTES))

    async def _stream(self, asked: Streamed[ItemT], deadline: float | None) -> AsyncIterator[ItemT]:
        """Make a call that answers with many JSON lines, and give them as they arrive.

        The answer is closed in any case, because Ollama keeps working for as long as someone seems to listen.
        """
        reply = asked.reply
        with exchange.named_failures(reply):
            async with await self._open(asked.path, asked.body, deadline) as response:
                async for data in response.chunks():
                    for item in reply.feed(data):
                        yield item
                    if reply.is_done:
                        await response.drain(exchange.DRAIN_SECONDS)
                        return
                for item in reply.end():
                    yield item

    async def _open(self, path: str, body: JsonObject, deadline: float | None) -> AsyncHttpResponse:
        """Send a request; return the answer if its status is 2xx, else raise what the status stands for."""
        pool = self._given_pool or async_http.pool(places.OLLAMA, addresses.nodes)
        response = await pool.send(
            "POST",
            self.base_url + path,
            headers=exchange.JSON_HEADERS,
            body=protocol.encode(body),
            timeouts=self.timeouts,
            deadline=deadline,
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            answer = await response.read(exchange.MAX_ERROR_BYTES)
            raise protocol.status_error(response.status, answer, location=response.headers.get("Location", ""))
