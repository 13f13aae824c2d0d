"""What every fault works on: a running group, how much to break of it, and what is noted for the verdict."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bench.client import Client
from bench.group import Group
from tests.program import ProgramError
from tests.services import Services

RECOVERY_SECONDS = 60
POLL_SECONDS = 0.02
# How long processes may go by what nodes were like, and a little more; nothing tells when they know better.
REMEMBERED_SECONDS = 1.2
WATCH_SECONDS = 0.25  # between two looks at what must go on


@dataclass(frozen=True)
class Scale:
    """How much to break. Seconds that follow from the group's settings are properties.

    calls, streams: of the gateway. late_seconds: how long a call may wait because of a fault. turn_seconds: how often
    the schedule comes that beats are watched by.
    """

    tasks: int
    calls: int
    streams: int
    kills: int
    kill_interval_seconds: float
    broker_down_seconds: float
    node_down_seconds: float
    lock_seconds: float
    turn_seconds: float
    turns: int
    lease_seconds: float
    reaper_seconds: float
    gap_seconds: float
    long_answer_seconds: float
    drain_seconds: float
    rerun_limit_seconds: float
    late_seconds: float

    @property
    def stop_seconds(self) -> float:
        """Past the lease, the reaper's next round, and a moment for another worker to take over."""
        return self.lease_seconds + 2 * self.reaper_seconds + 2


@dataclass(kw_only=True)
class Scene:
    """What a fault works on, and what it notes for the verdict.

    wrong: what must not have happened, and how often; examples of it.
    """

    group: Group
    services: Services | None
    rng: random.Random
    scale: Scale
    worker_kills: list[float] = field(default_factory=list)  # time.perf_counter() of each
    kills: int = 0
    notes: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def blame(self, what: str, example: str) -> None:
        self.wrong[what] += 1
        self.examples.append(f"{what}: {example}")

    async def until(self, condition: Callable[[], object], what: str, seconds: float = RECOVERY_SECONDS) -> None:
        """Wait for a condition without stopping the clients. Raises ProgramError."""
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise ProgramError(f"not within {seconds:g} s: {what}\n{self.group.log_tail()}")
            await asyncio.sleep(POLL_SECONDS)

    async def kill(self, role: str) -> None:
        """kill -9 a process, and wait until another has taken its place."""
        await self.until(lambda: self.group.pids(role), f"a {role} process runs")
        pid = self.group.pids(role)[0]
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        if role == "worker":
            self.worker_kills.append(time.perf_counter())
        await self.until(lambda: set(self.group.pids(role)) - {pid}, f"another {role} process runs")
        if role.startswith("web"):
            await self.until_serving()

    async def while_watching(
        self, look: Callable[[], Coroutine[Any, Any, None]], work: Coroutine[Any, Any, None]
    ) -> None:
        """Do something, and look at something else again and again meanwhile."""

        async def watch() -> None:
            while True:
                await look()
                await asyncio.sleep(WATCH_SECONDS)

        watching = asyncio.create_task(watch())
        try:
            await work
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        if not watching.cancelled():
            watching.result()

    async def until_serving(self) -> None:
        client = Client(self.group.url, timeout_seconds=2)
        limit = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                if (await client.get("/health")).status == 200:
                    break
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() > limit:
                raise ProgramError(f"the web process does not answer:\n{self.group.log_tail()}")
        client.close()


SceneT = TypeVar("SceneT", bound=Scene)


@dataclass(frozen=True)
class Fault(Generic[SceneT]):
    """name: as on the command line. backends: names of the groups that are put to it; see `run.backends_of`."""

    name: str
    title: str
    inject: Callable[[SceneT], Awaitable[None]]
    backends: tuple[str, ...] = ("embedded", "rabbitmq")
