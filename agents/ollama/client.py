"""The Ollama client for threads: every call of Ollama's native API over the process's pooled connections.

Answers that a model writes are always streamed, so that a call can be watched, limited and interrupted. Every
failure is one of `agents.ollama.errors`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from agents.ollama import errors, exchange, protocol
from agents.ollama.exchange import Streamed, named_failures
from agents.ollama.protocol import ItemT
from agents.ollama.types import (
    ChatChunk,
    ChatRequest,
    EmbedRequest,
    EmbedResult,
    GenerateRequest,
    InstalledModel,
    JsonObject,
    LoadedModel,
    ModelDetails,
    Progress,
    Timeouts,
)
from core.net import addresses, http, places
from core.net.http import HttpResponse
from core.net.interrupts import Interrupt

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

ResultT = TypeVar("ResultT")


class OllamaClient:
    """Speaks to one Ollama server. Cheap to make, safe to share between threads: the connections are the pool's.

    base_url: as `protocol.base_url` reads it, "http://127.0.0.1:11434" for example.
    """

    def __init__(self, base_url: str, *, timeouts: Timeouts | None = None, pool: http.HttpPool | None = None) -> None:
        self.base_url = protocol.base_url(base_url)
        self.timeouts = timeouts or Timeouts()
        self._pool = pool or http.pool(places.OLLAMA, addresses.nodes)
        self._probe_timeouts = _brief(self.timeouts, self.timeouts.probe)
        self._control_timeouts = _brief(self.timeouts, self.timeouts.control)

    def version(self) -> str:
        """Ask for the server's version, "0.33.0" for example. Source: GET /api/version."""
        return self._ask("GET", "/api/version", protocol.parse_version, timeouts=self._probe_timeouts)

    def clock(self) -> datetime | None:
        """Ask what time it is there, to the second; None where it does not say. Source: an answer's header Date."""
        with named_failures(), self._open("GET", "/api/version", timeouts=self._probe_timeouts) as response:
            try:
                return parsedate_to_datetime(response.headers.get("Date", ""))
            except ValueError:
                return None

    def tags(self) -> list[InstalledModel]:
        """List the installed models, newest first. Source: GET /api/tags."""
        return self._ask("GET", "/api/tags", protocol.parse_tags, timeouts=self._probe_timeouts)

    def ps(self) -> list[LoadedModel]:
        """List the models in memory. Source: GET /api/ps."""
        return self._ask("GET", "/api/ps", protocol.parse_ps, timeouts=self._probe_timeouts)

    def show(self, model: str) -> ModelDetails:
        """Describe an installed model; raises ModelNotFound. Source: POST /api/show."""
        return self._ask("POST", "/api/show", protocol.parse_show, {"model": model}, timeouts=self._control_timeouts)

    def chat(
        self, request: ChatRequest, *, interrupt: Interrupt | None = None, deadline: float | None = None
    ) -> Iterator[ChatChunk]:
        """Stream the model's next message; the last chunk, and only it, has `done`, counts and durations.

        deadline: a time.monotonic() value. Closing the iterator early frees the model's slot.
        Raises any OllamaError; one raised after text was handed out has `output_began`.
        Source: POST /api/chat.
        """
        return self._stream(exchange.chat(request), interrupt, deadline)

    def generate(
        self, request: GenerateRequest, *, interrupt: Interrupt | None = None, deadline: float | None = None
    ) -> Iterator[ChatChunk]:
        """Stream the continuation of one prompt, as chat() does. Source: POST /api/generate."""
        return self._stream(exchange.generate(request), interrupt, deadline)

    def embed(
        self, request: EmbedRequest, *, interrupt: Interrupt | None = None, deadline: float | None = None
    ) -> EmbedResult:
        """Turn texts into unit-length vectors, one per input. Source: POST /api/embed."""
        body = protocol.embed_body(request)
        with (
            named_failures(),
            self._open("POST", exchange.EMBED_PATH, body, interrupt=interrupt, deadline=deadline) as response,
        ):
            return exchange.embedded(request, response.read(exchange.MAX_ANSWER_BYTES))

    def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> Iterator[Progress]:
        """Download a model; the last step has the status "success". A broken pull resumes next time.

        insecure: whether its registry may do without TLS.
        Raises StreamError for a model that the registry does not have. Source: POST /api/pull.
        """
        body: JsonObject = {"model": model, "insecure": insecure, "stream": True}
        return self._stream(Streamed("/api/pull", body, protocol.progress_stream()), interrupt, deadline)

    def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> Iterator[Progress]:
        """Upload a model to the registry that its name names, with progress as pull(). Source: POST /api/push."""
        body: JsonObject = {"model": model, "insecure": insecure, "stream": True}
        return self._stream(Streamed("/api/push", body, protocol.progress_stream()), interrupt, deadline)

    def create(
        self,
        model: str,
        settings: JsonObject,
        *,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> Iterator[Progress]:
        """Make a model from another or from blobs, with progress as pull().

        settings: "from" or "files" (name to digest), and adapters, template, system, parameters, messages,
        quantize as wanted. Source: POST /api/create.
        """
        body = settings | {"model": model, "stream": True}
        return self._stream(Streamed("/api/create", body, protocol.progress_stream()), interrupt, deadline)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; raises ModelNotFound. Source: POST /api/copy."""
        self._command("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        """Remove an installed model; raises ModelNotFound. Source: DELETE /api/delete."""
        self._command("DELETE", "/api/delete", {"model": model})

    def has_blob(self, digest: str) -> bool:
        """True if the server holds the blob "sha256:<64 hex digits>". Source: HEAD /api/blobs/:digest."""
        try:
            self._command("HEAD", _blob_path(digest))
        except (errors.ModelNotFound, errors.NotOllama) as error:
            if error.status == 404:
                return False
            raise
        return True

    def upload_blob(self, digest: str, content: Iterable[bytes], *, interrupt: Interrupt | None = None) -> None:
        """Send a file for create(); raises OllamaRejected when it does not match its digest.

        Source: POST /api/blobs/:digest.
        """
        with named_failures():
            self._open("POST", _blob_path(digest), iter(content), interrupt=interrupt).close()

    def _command(self, method: str, path: str, body: JsonObject | None = None) -> None:
        """Make a call whose success has an empty body."""
        with named_failures():
            self._open(method, path, body, timeouts=self._control_timeouts).close()

    def _ask(
        self,
        method: str,
        path: str,
        parse: Callable[[JsonObject], ResultT],
        body: JsonObject | None = None,
        *,
        timeouts: Timeouts,
    ) -> ResultT:
        """Make a call that answers with one JSON object."""
        with named_failures(), self._open(method, path, body, timeouts=timeouts) as response:
            return parse(protocol.decode_object(response.read(exchange.MAX_ANSWER_BYTES)))

    def _stream(self, asked: Streamed[ItemT], interrupt: Interrupt | None, deadline: float | None) -> Iterator[ItemT]:
        """Make a call that answers with many JSON lines, and give them as they arrive.

        The answer is closed in any case, because Ollama keeps working for as long as someone seems to listen.
        """
        reply = asked.reply
        with (
            named_failures(reply),
            self._open("POST", asked.path, asked.body, interrupt=interrupt, deadline=deadline) as response,
        ):
            for data in response.chunks():
                yield from reply.feed(data)
                if reply.is_done:
                    response.drain(exchange.DRAIN_SECONDS)
                    return
            yield from reply.end()

    def _open(
        self,
        method: str,
        path: str,
        body: JsonObject | Iterator[bytes] | None = None,
        *,
        timeouts: Timeouts | None = None,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> HttpResponse:
        """Send a request; return the answer if its status is 2xx, else raise what the status stands for."""
        response = self._pool.send(
            method,
            self.base_url + path,
            headers=exchange.JSON_HEADERS,
            body=protocol.encode(body) if isinstance(body, dict) else body,
            timeouts=timeouts or self.timeouts,
            interrupt=interrupt,
            deadline=deadline,
        )
        if 200 <= response.status < 300:
            return response
        with response:
            location = response.headers.get("Location", "")
            raise protocol.status_error(response.status, response.read(exchange.MAX_ERROR_BYTES), location=location)


def _brief(timeouts: Timeouts, seconds: float) -> Timeouts:
    """The limits of a call that a healthy server answers at once."""
    return replace(timeouts, connect=min(timeouts.connect, seconds), first_byte=seconds, gap=seconds)


def _blob_path(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise errors.OllamaRejected(f"not a digest: {digest[:80]!r}")
    return f"/api/blobs/{digest}"
