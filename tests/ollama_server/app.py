"""Routes, refusals, statistics and remote control of the test server."""

import asyncio
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.ollama_server import knobs, openai
from tests.ollama_server.generation import Generator
from tests.ollama_server.http import Connection, Reply, Request
from tests.ollama_server.knobs import Knobs
from tests.ollama_server.models import DEFAULT_MODELS, Catalogue
from tests.ollama_server.native import NativeApi
from tests.ollama_server.openai import OpenAiApi
from tests.ollama_server.parsing import Refusal
from tests.ollama_server.scheduler import Scheduler
from tests.ollama_server.stats import Stats

APP_SCHEMES = {"app", "file", "tauri", "vscode-webview", "vscode-file"}
LOCAL_DOMAINS = ("localhost", "local", "internal")

Handler = Callable[[Request, Reply], Awaitable[None]]


@dataclass(slots=True)
class Fault:
    """Knobs for the requests that match; `times` limits how often, None does not."""

    knobs: Knobs
    path: str = ""
    model: str = ""
    prompt: str = ""
    times: int | None = None

    def matches(self, path: str, model: str, prompt: str) -> bool:
        base = model.partition(":")[0]
        names_it = self.path in {"", path} and self.model in {"", model, base} and self.prompt in prompt
        return names_it and self.times != 0


class App:
    """The whole server but for its socket.

    watch: called with the path of each request, in a thread, before it is answered: whoever asks waits meanwhile.
    """

    watch: Callable[[str], object] | None = None

    def __init__(
        self,
        *,
        models: tuple[str, ...] = DEFAULT_MODELS,
        parallel: int = 1,
        max_queue: int = 512,
        max_loaded: int = 3,
        load_seconds: float = 0.0,
        keep_alive: float = 300.0,
    ) -> None:
        self.stats = Stats()
        self.connections: set[Connection] = set()
        self._faults: list[Fault] = []
        self._catalogue = Catalogue(models)
        self._scheduler = Scheduler(
            parallel=parallel,
            max_queue=max_queue,
            max_loaded=max_loaded,
            load_seconds=load_seconds,
            keep_alive=keep_alive,
        )
        self._generator = Generator(self._scheduler, self.stats)
        native = NativeApi(self._catalogue, self._scheduler, self._generator, self.stats, self._controlled)
        self._routes = self._make_routes(native, OpenAiApi(self._catalogue, native, self._generator))

    def _make_routes(self, native: NativeApi, compatible: OpenAiApi) -> dict[str, dict[str, Handler]]:
        """Methods by path; a path that ends in "/*" stands for one more part."""
        return {
            "/": {"GET": native.root, "HEAD": native.root},
            "/api/version": {"GET": native.version, "HEAD": native.version},
            "/api/tags": {"GET": native.tags, "HEAD": native.tags},
            "/api/ps": {"GET": native.ps},
            "/api/show": {"POST": native.show},
            "/api/delete": {"DELETE": native.delete},
            "/api/copy": {"POST": native.copy},
            "/api/pull": {"POST": native.pull},
            "/api/push": {"POST": native.push},
            "/api/create": {"POST": native.create},
            "/api/blobs/*": {"HEAD": native.has_blob, "POST": native.upload_blob},
            "/api/generate": {"POST": native.generate},
            "/api/chat": {"POST": native.chat},
            "/api/embed": {"POST": native.embed},
            "/api/embeddings": {"POST": native.embeddings},
            "/v1/models": {"GET": compatible.models},
            "/v1/models/*": {"GET": compatible.model},
            "/v1/chat/completions": {"POST": compatible.chat_completions},
            "/v1/embeddings": {"POST": compatible.embeddings},
            "/__stats": {"GET": self._show_stats},
            "/__control": {"POST": self._control},
        }

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of the files that were uploaded."""
        return frozenset(self._catalogue.blobs)

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request; cancelled when its client goes away."""
        is_ours = request.path.startswith("/__")
        if not is_ours:
            self.stats.enter(request.path, request.headers.get("traceparent"))
            if self.watch is not None:
                await asyncio.to_thread(self.watch, request.path)
        try:
            await self._route(request, reply)
        except Refusal as refusal:
            is_compatible = request.path.startswith("/v1/")
            reply.json(refusal.status, openai.error_object(refusal) if is_compatible else {"error": refusal.text})
        except BaseException:
            self.stats.aborted += not is_ours
            raise
        finally:
            if not is_ours:
                self.stats.leave()

    async def _route(self, request: Request, reply: Reply) -> None:
        if not _is_allowed(request):
            reply.empty(403)
            return
        methods = self._routes.get(request.path) or self._routes.get(f"{request.path.rpartition('/')[0]}/*")
        if methods is None:
            reply.send(404, "text/plain", b"404 page not found")
        elif request.method not in methods:
            reply.send(405, "text/plain", b"405 method not allowed")
        else:
            await methods[request.method](request, reply)

    def _controlled(self, path: str, model: str, prompt: str) -> Knobs:
        found = knobs.NONE
        for fault in self._faults:
            if fault.matches(path, model, prompt):
                found = found.merged(fault.knobs)
                if fault.times is not None:
                    fault.times -= 1
        return found

    async def _show_stats(self, request: Request, reply: Reply) -> None:
        scheduler = self._scheduler
        own = {
            "connections": len(self.connections),
            "loads": scheduler.loads,
            "loads_aborted": scheduler.loads_aborted,
            "loaded": {name: runner.users for name, runner in scheduler.runners.items()},
        }
        reply.json(200, self.stats.as_dict() | own)

    async def _control(self, request: Request, reply: Reply) -> None:
        """Change the server while it runs.

        {"reset": true, "release": true, "faults": [{"knobs": "cut3", "path", "model", "prompt", "times"}],
        "parallel": 4, "max_queue": 1, "max_loaded": 1, "load_seconds": 0.5, "keep_alive": 60, "install": [names],
        "remove": [names]}
        """
        body: dict[str, Any] = json.loads(request.body)
        if body.pop("reset", False):
            self.stats.reset()
            self._faults.clear()
            self._generator.hold_again()
        if body.pop("release", False):
            self._generator.release()
        self._change_models(body.pop("install", []), body.pop("remove", []))
        if (faults := body.pop("faults", None)) is not None:
            self._faults = [_fault(fault) for fault in faults]
        for name in ("parallel", "max_queue", "max_loaded", "load_seconds", "keep_alive"):
            if name in body:
                setattr(self._scheduler, name, body.pop(name))
        if body:
            raise Refusal(400, f"unknown control: {', '.join(body)}")
        reply.json(200, {})

    def _change_models(self, installed: list[str], removed: list[str]) -> None:
        for name in installed:
            self._catalogue.install(name)
        for name in removed:
            self._catalogue.delete(name)


def _fault(value: dict[str, Any]) -> Fault:
    given = knobs.parse(value.pop("knobs"))
    if given is None:
        raise Refusal(400, "unknown knob")
    return Fault(given, **value)


def _is_allowed(request: Request) -> bool:
    origin = urlsplit(request.headers.get("origin", ""))
    if origin.scheme and origin.scheme not in APP_SCHEMES and not _is_loopback(origin.hostname or ""):
        return False
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return _is_loopback(host) or _is_private(host) or host == socket.gethostname().lower()


def _is_loopback(host: str) -> bool:
    return host in {"", "localhost", "0.0.0.0"} or host.startswith("127.") or host == "::1"


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.rpartition(".")[2] in LOCAL_DOMAINS
