"""What happens during a soak, at which part of it."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.chaos.scene import Scene

WEB_PROCESSES = 2
REPLACED_SECONDS = 300
# What began shortly before a fault is part of what it hits; what it started goes on for a while after it.
AFTER_SECONDS = 15


@dataclass(frozen=True)
class SoakFault:
    """at: the part of the time that has passed when it comes. strike: returns when it is over."""

    title: str
    at: float
    strike: Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Window:
    """When a fault was there, by time.perf_counter()."""

    title: str
    begun: float
    ended: float

    def touches(self, begun: float, ended: float) -> bool:
        """Tell whether the fault may have hit what went on between these moments."""
        return begun <= self.ended + AFTER_SECONDS and ended >= self.begun


async def kill_web(scene: Scene) -> None:
    pid = scene.group.pids("web")[0]
    os.kill(pid, signal.SIGKILL)
    await scene.until(lambda: _all_but(scene, "web", {pid}) == WEB_PROCESSES, "another web process runs")
    await scene.until_serving()


async def kill_worker(scene: Scene) -> None:
    await scene.kill("worker")


async def restart_broker(scene: Scene) -> None:
    assert scene.services is not None
    broker = scene.services.rabbitmq
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(broker.wait_until_ready)


async def replace_all(scene: Scene) -> None:
    """`manage.py restart`, until every process but the parent of the web processes is another one."""
    before = {role: set(scene.group.pids(role)) for role in ("web", "worker", "beat")}
    await asyncio.to_thread(scene.group.manage, "restart")
    await scene.until(
        lambda: (
            _all_but(scene, "web", before["web"]) == len(scene.group.pids("web")) == WEB_PROCESSES
            and all(_all_but(scene, role, before[role]) == 1 for role in ("worker", "beat"))
        ),
        "every process is another one",
        seconds=REPLACED_SECONDS,
    )


def _all_but(scene: Scene, role: str, old: set[int]) -> int:
    """How many processes of a role there are besides old ones."""
    return len(set(scene.group.pids(role)) - old)


FAULTS = (
    SoakFault("web process killed", 0.1, kill_web),
    SoakFault("worker killed", 0.2, kill_worker),
    SoakFault("broker restarted", 0.3, restart_broker),
    SoakFault("rolling restart", 0.4, replace_all),
)


async def strike_all(scene: Scene, seconds: float) -> list[Window]:
    """Let each fault come at its moment; the next one waits for the one before it."""
    started, windows = time.perf_counter(), []
    for fault in FAULTS:
        await asyncio.sleep(max(0.0, started + fault.at * seconds - time.perf_counter()))
        begun = time.perf_counter()
        await fault.strike(scene)
        windows.append(Window(fault.title, begun, time.perf_counter()))
    return windows
