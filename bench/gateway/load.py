"""Clients that each ask for whole answers, one after another: how many they get, how fast, and what that costs."""

import asyncio
import json
import os
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import Client
from bench.figures import percentile
from bench.gateway.double import DoubleProcess
from bench.gateway.processes import Meter, settled
from bench.gateway.targets import PATH, Target

SCRIPT = Path(__file__).with_name("post.lua")
PROMPT = "hello there"


@dataclass(frozen=True)
class Counted:
    """What the clients saw. Times in milliseconds; failed: refused, or broken off."""

    requests: int
    seconds: float
    median: float
    p95: float
    failed: int


@dataclass(frozen=True)
class Load:
    """cpu, apart: milliseconds of CPU for each call, of the target's parts and of the servers that it needs."""

    counted: Counted
    cpu: Mapping[str, float]
    apart: Mapping[str, float]

    @property
    def per_second(self) -> float:
        return (self.counted.requests - self.counted.failed) / self.counted.seconds

    @property
    def cpu_sum(self) -> float:
        return sum(self.cpu.values())


Asker = Callable[[Target, dict[str, Any], int, int], Awaitable[Counted]]  # body, connections, seconds


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


async def load(
    target: Target, double: DoubleProcess, *, connections: int, seconds: int, body: dict[str, Any] | None = None
) -> Load:
    """Keep a target busy for some seconds.

    CPU time is shared out among the calls that reached the upstream, not among the answers that came in time: those
    that were under way at the end cost their share too.
    """
    body = body or target.body(PROMPT)
    calls, own, apart = double.calls, Meter(target.parts()), Meter(target.apart())
    ask: Asker = ask_by_wrk if has_wrk() else ask_by_client
    counted = await ask(target, body, connections, seconds)
    await settled(target.parts())
    calls = max(1, double.calls - calls)
    cpu, other = ({name: 1000 * used / calls for name, used in meter.seconds().items()} for meter in (own, apart))
    return Load(counted, cpu, other)


async def ask_by_wrk(target: Target, body: dict[str, Any], connections: int, seconds: int) -> Counted:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
    wrk = await asyncio.create_subprocess_exec(
        *command,
        target.url + PATH,
        env={"PATH": os.environ["PATH"], "BODY": json.dumps(body), "KEY": target.key},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await wrk.communicate()
    return Counted(**json.loads(said.splitlines()[-1]))


async def ask_by_client(target: Target, body: dict[str, Any], connections: int, seconds: int) -> Counted:
    """Do the same with more of the processor's time, where wrk is not installed."""
    client = target.client()
    latencies: list[float] = []
    failed = 0
    began = time.perf_counter()

    async def user() -> None:
        nonlocal failed
        while (asked := time.perf_counter()) < began + seconds:
            is_answered = await _is_answered(client, body)
            failed += not is_answered
            latencies.append(1000 * (time.perf_counter() - asked))

    async with asyncio.TaskGroup() as users:
        for _ in range(connections):
            users.create_task(user())
    took = time.perf_counter() - began
    client.close()
    return Counted(len(latencies), took, statistics.median(latencies), percentile(latencies, 0.95), failed)


async def _is_answered(client: Client, body: dict[str, Any]) -> bool:
    try:
        return (await client.request("POST", PATH, body)).status == 200
    except OSError:
        return False
