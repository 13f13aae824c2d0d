"""The smallest door that the formats can stand in: real HTTP, no engine. What models answer is written down before."""

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from agents.gateway.formats import TEXT_FORMATS, VECTOR_FORMATS, base, ollama_models, openai_models, openai_responses
from agents.gateway.formats.base import Failure, Identity, Wanted
from agents.gateway.formats.reading import CallRefused
from agents.gateway.formats.vectors import Embedded
from agents.kinds.model_call import ModelCall
from agents.models import AgentVersion
from agents.ollama.types import ChatChunk, InstalledModel, LoadedModel, ModelDetails
from core.exceptions import Refused
from tests.agents.gateway.formats.samples import CREATED, TRUTH

# What a model answers: its pieces in order. A failure ends it, before the first piece with its own status.
Script = Sequence[ChatChunk | Failure]


@dataclass
class World:
    """The models and what was asked of them."""

    scripts: dict[str, Script] = field(default_factory=dict)
    vectors: dict[str, Embedded] = field(default_factory=dict)
    installed: list[InstalledModel] = field(default_factory=list)
    calls: list[Wanted] = field(default_factory=list)
    kept: dict[uuid.UUID, Wanted] = field(default_factory=dict)
    url: str = ""

    def accept(self, wanted: Wanted) -> Identity:
        assert ModelCall().clean(wanted.call, AgentVersion()) == wanted.call
        self.calls.append(wanted)
        identity = Identity(uuid.uuid4(), CREATED, wanted.model)
        self.kept[identity.task_id] = wanted
        return identity


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it a stream's small pieces wait for acknowledgements.
    disable_nagle_algorithm = True

    @property
    def world(self) -> World:
        return cast("_Server", self.server).world

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        pass

    # --- routes -----------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        format_: Any = TEXT_FORMATS.get(path) or VECTOR_FORMATS.get(path)
        if path == "/api/show":
            self._refusable(TEXT_FORMATS["/api/chat"].dialect, lambda dialect: self._show(dialect.decode(body)))
        elif format_ is None:
            self._send(404, base.PLAIN, base.NO_SUCH_PAGE)
        elif path in VECTOR_FORMATS:
            self._refusable(format_.dialect, lambda dialect: self._embed(format_, dialect.decode(body)))
        else:
            self._refusable(format_.dialect, lambda dialect: self._generate(format_, dialect.decode(body)))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        openai = TEXT_FORMATS["/v1/responses"].dialect
        match parts.path.split("/")[1:]:
            case ["api", "tags"]:
                self._send(200, base.JSON, ollama_models.tags(self.world.installed))
            case ["api", "ps"]:
                loaded = [LoadedModel(name=model.name, context_length=4096) for model in self.world.installed]
                self._send(200, base.JSON, ollama_models.ps(loaded))
            case ["v1", "models"]:
                self._send(200, base.JSON, openai_models.models(self.world.installed))
            case ["v1", "models", name]:
                self._refusable(openai, lambda _: self._send(200, base.JSON, openai_models.model(self._found(name))))
            case ["v1", "responses", response_id]:
                query = dict(parse_qsl(parts.query))
                self._refusable(openai, lambda _: self._retrieve(response_id, query))
            case [*_] if parts.path in TEXT_FORMATS:
                self._send(405, base.PLAIN, base.NO_SUCH_METHOD)
            case _:
                self._send(404, base.PLAIN, base.NO_SUCH_PAGE)

    def _refusable(self, dialect: base.Dialect, act: Any) -> None:
        try:
            act(dialect)
        except Refused as refusal:
            self._fail(dialect, Failure.of(refusal))

    # --- answers ----------------------------------------------------------------------------------------------

    def _generate(self, format_: Any, body: dict[str, Any]) -> None:
        wanted = format_.parse(body)
        if wanted.model not in self.world.scripts:
            self._fail(format_.dialect, format_.not_found(wanted.model))
            return
        identity = self.world.accept(wanted)
        encoder = format_.encoder(identity, wanted.shape)
        script = self.world.scripts[wanted.model]
        failures = [step for step in script if isinstance(step, Failure)]
        if wanted.is_background:
            self._send(200, base.JSON, encoder.retrieved("queued"))
        elif failures and (script[0] is failures[0] or not wanted.streams):
            self._fail(format_.dialect, failures[0])
        elif wanted.streams:
            self._stream(encoder, encoder.start(), script)
        else:
            self._send(200, base.JSON, encoder.whole(script, TRUTH))

    def _retrieve(self, response_id: str, query: dict[str, str]) -> None:
        retrieval = openai_responses.parse_retrieval(query)
        task_id = openai_responses.task_id(response_id)
        wanted = self.world.kept.get(task_id)
        if wanted is None:
            raise CallRefused(f"Response with id '{response_id}' not found.", status=404)
        script: Any = self.world.scripts[wanted.model]
        identity = Identity(task_id, CREATED, wanted.model)
        encoder = openai_responses.ResponsesEncoder(identity, wanted.shape, after=retrieval.after)
        if retrieval.streams:
            self._stream(encoder, encoder.history(script[:1]), script[1:])
        else:
            self._send(200, base.JSON, encoder.retrieved("completed", script, truth=TRUTH))

    def _stream(self, encoder: Any, start: bytes, script: Script) -> None:
        self.send_response(200)
        self.send_header("Content-Type", encoder.stream_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._write(start)
        for step in script:
            self._write(encoder.keep_alive)
            if isinstance(step, Failure):
                self._write(encoder.failure(step))
            else:
                self._write(encoder.end(step, TRUTH) if step.done else encoder.piece(step))
        assert encoder.is_over
        self.wfile.write(b"0\r\n\r\n")

    def _embed(self, format_: Any, body: dict[str, Any]) -> None:
        wanted = format_.parse(body)
        if wanted.model not in self.world.vectors:
            self._fail(format_.dialect, format_.not_found(wanted.model))
            return
        encoder = format_.encoder(self.world.accept(wanted), wanted.shape)
        self._send(200, base.JSON, encoder.whole(self.world.vectors[wanted.model], TRUTH))

    def _show(self, body: dict[str, Any]) -> None:
        model = self._found(ollama_models.parse_show(body))
        details = ModelDetails(details=model.details, capabilities=model.capabilities, modified_at=model.modified_at)
        self._send(200, base.JSON, ollama_models.show(details))

    def _found(self, name: str) -> InstalledModel:
        for model in self.world.installed:
            if model.name == name:
                return model
        raise CallRefused(f"model '{name}' not found", status=404)

    # --- bytes ------------------------------------------------------------------------------------------------

    def _fail(self, dialect: base.Dialect, failure: Failure) -> None:
        self._send(failure.status, base.JSON, dialect.error(failure))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _write(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.world = world


@contextmanager
def opened(world: World) -> Iterator[World]:
    """Serve a world on a free port."""
    server = _Server(world)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    world.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield world
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
