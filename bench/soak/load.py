"""The mixed load: what people and programs do all day, for as long as it lasts."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import console
from bench.chaos.gateway.calls import Call, Callers
from bench.chaos.gateway.wire import WIRES
from bench.chaos.ledger import Ledger
from bench.chaos.load import Load
from bench.client import Client
from bench.group import Group

# In a second.
TASKS, CALLS, READS, PAGES = 4.0, 2.0, 5.0, 1.0
# Answered at once, over two seconds, and over ten.
PACES = {"t16": 50, "t20-d100": 40, "t20-d500": 10}
LISTS = ("/api/v1/tasks/?page_size=20", "/api/v1/agents/", "/api/v1/nodes/", "/v1/models")
READ_SECONDS = 10


@dataclass(frozen=True)
class Read:
    """One page or list. at: time.perf_counter() when it was asked for. flaw: why it was none."""

    at: float
    path: str
    seconds: float
    flaw: str


class Mixed:
    """All clients: submissions with followers, calls of the gateway, readers of the API, people at the console."""

    def __init__(self, group: Group, ledger: Ledger, rng: random.Random) -> None:
        self.load = Load(group, ledger, rng, rate=TASKS)
        self.callers = Callers(group.url, group.key)
        self.reads: list[Read] = []
        self._group = group
        self._rng = rng
        self._by_key = Client(group.url, key=group.key, timeout_seconds=READ_SECONDS)
        self._at_console = Client(group.url, timeout_seconds=READ_SECONDS)
        self._number = 0

    @property
    def calls(self) -> list[Call]:
        return self.callers.calls

    async def run(self, seconds: float) -> None:
        """Keep every rate for so long."""
        browser = await console.sign_in(self._group)
        prompts = [self._prompt() for _ in range(int(seconds * TASKS))]
        await asyncio.gather(
            self.load.submit(prompts),
            self._steadily(CALLS, seconds, self._call),
            self._steadily(READS, seconds, lambda: self._read(self._by_key, self._rng.choice(LISTS), {})),
            self._steadily(
                PAGES, seconds, lambda: self._read(self._at_console, self._rng.choice(console.PAGES), browser)
            ),
        )

    async def drain(self, seconds: float) -> None:
        await self.load.drain(seconds)
        await self.callers.drain(seconds)

    def close(self) -> None:
        for client in (self.load, self.callers, self._by_key, self._at_console):
            client.close()

    async def _steadily(self, rate: float, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something at a steady rate, however long each takes."""
        started, running = time.monotonic(), set[asyncio.Future[None]]()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            one = asyncio.ensure_future(work())
            running.add(one)
            one.add_done_callback(running.discard)
        await asyncio.gather(*running)

    def _prompt(self) -> str:
        self._number += 1
        (pace,) = self._rng.choices(list(PACES), weights=list(PACES.values()))
        return f"[[{pace}]] question <{self._number} {self._rng.getrandbits(32):08x}>"

    async def _call(self) -> None:
        self.callers.call(self._rng.choice(WIRES), self._prompt(), streams=bool(self._rng.getrandbits(1)))

    async def _read(self, client: Client, path: str, headers: dict[str, str]) -> None:
        at, flaw = time.perf_counter(), ""
        try:
            status = (await client.request("GET", path, headers=headers)).status
            flaw = "" if status == 200 else f"status {status}"
        except OSError as error:
            flaw = type(error).__name__
        self.reads.append(Read(at, path, time.perf_counter() - at, flaw))
