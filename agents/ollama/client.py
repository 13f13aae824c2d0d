"""The Ollama client for threads: every call of Ollama's native API over the process's pooled connections.

Answers that a model writes are always streamed, so that a call can be watched, limited and interrupted. Every
failure is one of `agents.ollama.errors`.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from agents.ollama import errors, protocol
from agents.ollama.protocol import ItemT, ReplyStream
from agents.ollama.types import (
    ChatChunk,
    ChatRequest,
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
from core.net import errors as net_errors
from core.net.http import HttpResponse
from core.net.interrupts import Interrupt

# A large embedding answer: 1,000 vectors of 4,096 numbers are about 90 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024

# The end of the body follows the last line at once; past this the connection is not worth keeping.
DRAIN_SECONDS = 1.0

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, application/x-ndjson"}

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
        return self._stream(
            "/api/chat", protocol.chat_body(request), protocol.chat_stream(), interrupt=interrupt, deadline=deadline
        )

    def generate(
        self, request: GenerateRequest, *, interrupt: Interrupt | None = None, deadline: float | None = None
    ) -> Iterator[ChatChunk]:
        """Stream the continuation of one prompt, as chat() does. Source: POST /api/generate."""
        return self._stream(
            "/api/generate",
            protocol.generate_body(request),
            protocol.generate_stream(),
            interrupt=interrupt,
            deadline=deadline,
        )

    def embed(
        self,
        model: str,
        inputs: list[str],
        *,
        truncate: bool | None = None,
        dimensions: int | None = None,
        keep_alive: float | str | None = None,
        options: JsonObject | None = None,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> EmbedResult:
        """Turn texts into unit-length vectors, one per input.

        truncate: False refuses texts that exceed the context instead of cutting them silently.
        Source: POST /api/embed.
        """
        settings = {
            "truncate": truncate, "dimensions": dimensions, "keep_alive": keep_alive, "options": options
        }  # fmt: skip
        body = {"model": model, "input": inputs} | {name: v for name, v in settings.items() if v is not None}
        result = self._ask("POST", "/api/embed", protocol.parse_embed, body, interrupt=interrupt, deadline=deadline)
        if len(result.embeddings) != len(inputs):
            raise errors.NotOllama(f"{len(result.embeddings)} vectors for {len(inputs)} inputs")
        return result

    def pull(
        self, model: str, *, interrupt: Interrupt | None = None, deadline: float | None = None
    ) -> Iterator[Progress]:
        """Download a model; the last step has the status "success". A broken pull resumes next time.

        Raises StreamError for a model that the registry does not have. Source: POST /api/pull.
        """
        body: JsonObject = {"model": model, "stream": True}
        return self._stream("/api/pull", body, protocol.progress_stream(), interrupt=interrupt, deadline=deadline)

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
        return self._stream("/api/create", body, protocol.progress_stream(), interrupt=interrupt, deadline=deadline)

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
        with _named_failures():
            self._open("POST", _blob_path(digest), iter(content), interrupt=interrupt).close()

    def _command(self, method: str, path: str, body: JsonObject | None = None) -> None:
        """Make a call whose success has an empty body."""
        with _named_failures():
            self._open(method, path, body, timeouts=self._control_timeouts).close()

    def _ask(
        self,
        method: str,
        path: str,
        parse: Callable[[JsonObject], ResultT],
        body: JsonObject | None = None,
        *,
        timeouts: Timeouts | None = None,
        interrupt: Interrupt | None = None,
        deadline: float | None = None,
    ) -> ResultT:
        """Make a call that answers with one JSON object."""
        with (
            _named_failures(),
            self._open(method, path, body, timeouts=timeouts, interrupt=interrupt, deadline=deadline) as response,
        ):
            return parse(protocol.decode_object(response.read(MAX_ANSWER_BYTES)))

    def _stream(
        self,
        path: str,
        body: JsonObject,
        stream: ReplyStream[ItemT],
        *,
        interrupt: Interrupt | None,
        deadline: float | None,
    ) -> Iterator[ItemT]:
        """Make a call that answers with many JSON lines, and give them as they arrive.

        The answer is closed in any case, because Ollama keeps working for as long as someone seems to listen.
        """
        output_began = False
        try:
            with (
                _named_failures(),
                self._open("POST", path, body, interrupt=interrupt, deadline=deadline) as response,
            ):
                for data in response.chunks():
                    for item in stream.feed(data):
                        output_began = output_began or item.has_output
                        yield item
                    if stream.is_done:
                        response.drain(DRAIN_SECONDS)
                        return
                yield from stream.end()
        except errors.OllamaError as error:
            error.output_began = output_began
            raise

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
            headers=JSON_HEADERS,
            body=protocol.encode(body) if isinstance(body, dict) else body,
            timeouts=timeouts or self.timeouts,
            interrupt=interrupt,
            deadline=deadline,
        )
        if 200 <= response.status < 300:
            return response
        with response:
            location = response.headers.get("Location", "")
            raise protocol.status_error(response.status, response.read(MAX_ERROR_BYTES), location=location)


def _brief(timeouts: Timeouts, seconds: float) -> Timeouts:
    """The limits of a call that a healthy server answers at once."""
    return replace(timeouts, connect=min(timeouts.connect, seconds), first_byte=seconds, gap=seconds)


def _blob_path(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise errors.OllamaRejected(f"not a digest: {digest[:80]!r}")
    return f"/api/blobs/{digest}"


_NAMES: dict[type[net_errors.NetError], type[errors.OllamaError]] = {
    net_errors.InvalidUrl: errors.ConnectFailed,
    net_errors.AddressRefused: errors.AddressRefused,
    net_errors.PoolExhausted: errors.PoolExhausted,
    net_errors.ConnectFailed: errors.ConnectFailed,
    net_errors.FirstByteTimeout: errors.FirstByteTimeout,
    net_errors.GapTimeout: errors.GapTimeout,
    net_errors.DeadlineExceeded: errors.DeadlineExceeded,
    net_errors.Interrupted: errors.Interrupted,
    net_errors.NotHttp: errors.NotOllama,
    net_errors.ResponseTooLarge: errors.NotOllama,
}


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    """Turn the network's failures into Ollama's."""
    try:
        yield
    except net_errors.ConnectionLost as error:
        kind = errors.CutStream if error.body_began else errors.ConnectionLost
        raise kind(str(error)) from error
    except net_errors.NetError as error:
        raise _NAMES[type(error)](str(error)) from error
