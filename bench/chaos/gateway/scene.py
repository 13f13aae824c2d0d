"""What the gateway's faults work on: two nodes, and clients that call at a steady rate."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench import tasks
from bench.chaos.gateway.calls import Call, Callers, Outcome
from bench.chaos.gateway.wire import WIRES, Wire
from bench.chaos.scene import RECOVERY_SECONDS, REMEMBERED_SECONDS, Scene
from tests.ollama_server import OllamaTestProcess
from tests.program import ProgramError

NODES = ("test-server", "other-server")
RATE = 20  # calls per second
# Answered at once, over two seconds, and after half of one.
PACES = {"t16": 40, "t20-d100": 40, "f500-t8": 20}
MODEL_PATHS = ("/api/chat", "/api/generate")
POLL_SECONDS = 0.25
SIGN_IN_PATH = "/login"


@dataclass(kw_only=True)
class CallScene(Scene):
    """What a fault of the gateway works on.

    lane: what runs the calls. struck_at: time.perf_counter() when something broke. patience_seconds: how long calls
    may wait because of that.
    """

    servers: tuple[OllamaTestProcess, OllamaTestProcess]
    callers: Callers
    lane: str
    struck_at: float = float("inf")
    patience_seconds: float = 0.0
    _asked: int = 0

    @property
    def calls(self) -> list[Call]:
        return self.callers.calls

    def strike(self) -> None:
        self.struck_at = time.perf_counter()

    def call(self, wire: Wire, knobs: str, *, streams: bool) -> Call:
        """Begin a call that nobody made before; every second one has a key."""
        self._asked += 1
        key = f"{self.rng.getrandbits(128):032x}" if self._asked % 2 else ""
        prompt = f"[[{knobs}]] question <{self._asked} {self.rng.getrandbits(32):08x}>"
        return self.callers.call(wire, prompt, streams=streams, key=key)

    async def arrive(self, count: int) -> list[Call]:
        """Begin calls of all formats, whole and streamed, at the steady rate."""
        started, calls = time.monotonic(), list[Call]()
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
            (pace,) = self.rng.choices(list(PACES), weights=list(PACES.values()))
            calls.append(self.call(self.rng.choice(WIRES), pace, streams=bool(self.rng.getrandbits(1))))
        return calls

    def under_way(self) -> list[Call]:
        return [call for call in self.calls if not call.ended_at]

    async def drained(self) -> None:
        await self.callers.drain(self.scale.drain_seconds)

    async def until_ended(self) -> None:
        """Wait until no task is left, at most as long as tasks may take."""
        limit = time.monotonic() + self.scale.drain_seconds
        while time.monotonic() < limit:
            if not await self._count("queued") + await self._count("running"):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _count(self, status: str) -> int:
        page = await self.callers.client.get(f"/api/v1/tasks/?status={status}&page_size=1")
        return len(tasks.expect(page, 200)["results"])

    # Nodes -------------------------------------------------------------------------------------------------------

    async def kill_node(self, number: int) -> None:
        await asyncio.to_thread(self.servers[number].kill)

    async def start_node(self, number: int) -> None:
        await asyncio.to_thread(self.servers[number].start)

    async def break_node(self, number: int, knobs: str) -> None:
        """Break all that a node's models are asked; its server itself goes on."""
        faults = [{"knobs": knobs, "path": path} for path in MODEL_PATHS]
        await asyncio.to_thread(self.servers[number].control, faults=faults)

    async def mend_node(self, number: int) -> None:
        await asyncio.to_thread(self.servers[number].control, faults=[])

    @asynccontextmanager
    async def changed_nodes(self, **change: Any) -> AsyncIterator[None]:
        """Have other limits on both nodes for a while."""
        before = (await self.nodes()).values()
        for node in before:
            await self._change(node["id"], change)
        await asyncio.sleep(REMEMBERED_SECONDS)
        try:
            yield
        finally:
            for node in before:
                await self._change(node["id"], {name: node[name] for name in change})

    async def _change(self, node_id: str, change: dict[str, Any]) -> None:
        tasks.expect(await self.callers.client.request("PATCH", f"/api/v1/nodes/{node_id}/", change), 200)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        """Both nodes, by name."""
        rows = tasks.expect(await self.callers.client.get("/api/v1/nodes/"), 200)["results"]
        return {row["name"]: row for row in rows if row["name"] in NODES}

    async def until_used(self) -> float:
        """Wait until both nodes are given calls; returns how many seconds that took. Raises ProgramError."""
        started = time.monotonic()
        while any(node["breaker_state"] != "closed" for node in (await self.nodes()).values()):
            if time.monotonic() - started > RECOVERY_SECONDS:
                raise ProgramError(f"a node is not used again:\n{self.group.log_tail()}")
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - started

    async def forget_failures(self) -> None:
        """Take back what is known against both nodes, and suspicions: a look may have begun under an earlier fault."""
        for name in NODES:
            path = f"/api/v1/circuit-breaker/node:{name}/reset/"
            tasks.expect(await self.callers.client.request("POST", path, {}), 200)

    def excuse(self, calls: Iterable[Call], *outcomes: Outcome) -> None:
        """Let more than a whole answer come of these calls."""
        for call in calls:
            call.may.update(outcomes)

    # What is looked at meanwhile ---------------------------------------------------------------------------------

    async def look_at_console(self) -> None:
        """Open pages that a person would, and blame what does not come."""
        for path in (SIGN_IN_PATH, "/api/v1/tasks/?page_size=20"):
            started = time.monotonic()
            status = (await self.callers.client.get(path)).status
            seconds = time.monotonic() - started
            if status != 200 or seconds > max(1.0, self.scale.late_seconds):
                self.blame("console", f"{path}: {status} after {seconds:.1f} s")

    async def look_at_breakers(self) -> None:
        for name, node in (await self.nodes()).items():
            if node["breaker_state"] != "closed":
                self.blame("breaker opened", name)
