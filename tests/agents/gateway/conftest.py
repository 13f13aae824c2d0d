"""The whole program with its gateway, beside Ollama test servers: once with the quick lane, once with workers."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import ollama
import openai
import pytest
import requests

from bench.chaos.gateway import resuming
from bench.chaos.gateway.calls import Call, Callers
from bench.chaos.gateway.wire import Heard, Wire
from tests.ollama_server.embedded import OllamaTestProcess
from tests.program import PATIENCE_SECONDS, Program, wait_for

Result = TypeVar("Result")

MODELS = ("double", "tinyllama", "embedder")


@dataclass(frozen=True)
class Gateway:
    """A running program. server: the model server behind it, with its controls. key: an operator's."""

    program: Program
    server: OllamaTestProcess
    lane: str
    key: str
    openai: openai.OpenAI
    ollama: ollama.Client

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request with JSON, or with bytes as they are."""
        sent = {"Authorization": f"Bearer {self.key if key is None else key}", **(headers or {})}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.request(method, self.program.url + path, headers=sent, timeout=PATIENCE_SECONDS, **content)


@pytest.fixture(scope="module", params=["quick", "celery"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, lane = tmp_path_factory.mktemp("gateway"), request.param
    arguments = [part for name in MODELS for part in ("--model", name)]
    with (
        OllamaTestProcess("--parallel", "8", *arguments) as server,
        Program(
            folder,
            OLLAMA_HOST=server.url,
            SUTAZAI_GATEWAY_LANE=lane,
            SUTAZAI_NODE_SLOTS="8",
            SUTAZAI_BREAKER_FAILURES="1000",  # tests make the only node fail, and others follow at once
        ) as program,
    ):
        key = program.manage("create_api_key", "--user", "operator")
        headers = {"Authorization": f"Bearer {key}"}
        with (
            openai.OpenAI(base_url=f"{program.url}/v1", api_key=key, max_retries=0) as compatible,
            ollama.Client(host=f"{program.url}/ollama", headers=headers, trust_env=False) as native,
        ):
            yield Gateway(program, server, lane, key, compatible, native)


SLOTS = 4
NODES = ("one", "two", "silent", "silent-too")
SILENCE_SECONDS = 1.5  # of nodes that are to fall silent


class Clients:
    """Clients of the gateway that make their calls beside the test; what is still open at its end is left."""

    def __init__(self, url: str, key: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="clients", daemon=True)
        self._callers = Callers(url, key)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._callers.drain(0)
        self._callers.close()
        await asyncio.sleep(0)  # the loop closes what was left

    def call(self, wire: Wire, prompt: str, *, streams: bool = False, key: str = "") -> Call:
        """Begin a call, and do not wait for it."""

        async def begin() -> Call:
            return self._callers.call(wire, prompt, streams=streams, key=key)

        return self._done(begin())

    def leave(self, call: Call) -> None:
        self._done(self._callers.leave(call))

    def wait(self) -> None:
        """Wait until every call has ended."""
        self._done(self._callers.drain(PATIENCE_SECONDS))

    def resume(self, call: Call) -> Heard:
        """Come back for the rest of a response that was cut off."""
        return self._done(resuming.resume(self._callers.client, call))

    def read(self, call: Call) -> Heard:
        """Read a response again from its beginning."""
        return self._done(resuming.read(self._callers.client, call.heard.identity))

    def _done(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@dataclass(frozen=True)
class Pair:
    """A program with two model servers, and two more for those tests alone in which nodes fall silent.

    The first two may take their time; the silent ones may not.
    """

    program: Program
    one: OllamaTestProcess
    two: OllamaTestProcess
    silent: tuple[OllamaTestProcess, OllamaTestProcess]
    lane: str
    key: str

    @property
    def servers(self) -> tuple[OllamaTestProcess, OllamaTestProcess]:
        return self.one, self.two

    @property
    def all_servers(self) -> tuple[OllamaTestProcess, ...]:
        return *self.servers, *self.silent

    def api(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.request(
            method, self.program.url + path, headers=headers, json=body, timeout=PATIENCE_SECONDS
        )
        assert answer.ok, answer.text
        return answer.json()

    def nodes(self) -> dict[str, Any]:
        return {node["url"]: node for node in self.api("GET", "/api/v1/nodes/")["results"]}

    def use(self, *servers: OllamaTestProcess) -> None:
        """Have these servers get calls, and no others."""
        nodes = self.nodes()
        for server in self.all_servers:
            node, is_draining = nodes[server.url], server not in servers
            if node["is_draining"] != is_draining:
                self.api("PATCH", f"/api/v1/nodes/{node['id']}/", {"is_draining": is_draining})

    def release(self) -> None:
        """Let all answers go on that are held by servers that live."""
        for server in self.servers:
            if server.is_alive:
                server.control(release=True)

    def is_open(self, server: OllamaTestProcess) -> bool:
        """Tell whether the circuit breaker of a server's node keeps calls from it."""
        return self.nodes()[server.url]["breaker_state"] != "closed"

    def task(self, call: Call) -> Any:
        return self.api("GET", f"/api/v1/tasks/{call.task}/")

    def heal(self) -> None:
        """Have both servers run without faults, no task under way, and nothing known against the nodes.

        Suspicions are taken back as well: a look that began under faults may end after them.
        """
        for server in self.all_servers:
            if not server.is_alive:
                server.start()
            server.control(reset=True, faults=[], install=["tinyllama"])
        self.use(*self.servers)
        wait_for(self._is_idle, "no task is left")
        for name in NODES:
            self.api("POST", f"/api/v1/circuit-breaker/node:{name}/reset/", {})

    def _is_idle(self) -> bool:
        return not any(
            self.api("GET", f"/api/v1/tasks/?status={status}")["results"] for status in ("queued", "running")
        )


@pytest.fixture(scope="module", params=["quick", "celery"])
def running_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, lane = tmp_path_factory.mktemp("pair"), request.param
    server = ("--parallel", "64", "--model", "tinyllama", "--model", "double")
    with (
        OllamaTestProcess(*server) as one,
        OllamaTestProcess(*server) as two,
        OllamaTestProcess(*server) as silent,
        OllamaTestProcess(*server) as silent_too,
        Program(
            folder,
            SUTAZAI_GATEWAY_LANE=lane,
            SUTAZAI_NODE_SLOTS=str(SLOTS),
            SUTAZAI_TOKENS_PER_DAY=str(10**9),
        ) as program,
    ):
        key = program.manage("create_api_key", "--user", "operator")
        pair = Pair(program, one, two, (silent, silent_too), lane, key)
        for name, running in zip(NODES, pair.all_servers, strict=True):
            program.manage("register_node", "--name", name, "--url", running.url)
        limits = {"first_byte_timeout_seconds": SILENCE_SECONDS, "gap_timeout_seconds": SILENCE_SECONDS}
        nodes = pair.nodes()
        for running in pair.silent:
            pair.api("PATCH", f"/api/v1/nodes/{nodes[running.url]['id']}/", limits)
        yield pair


@pytest.fixture
def pair(running_pair: Pair) -> Pair:
    """The program as it is when nothing is wrong."""
    running_pair.heal()
    return running_pair


@pytest.fixture
def clients(pair: Pair) -> Iterator[Clients]:
    with Clients(pair.program.url, pair.key) as clients:
        yield clients
