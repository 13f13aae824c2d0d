"""What processes use: processor time, and memory."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil

# Idle is who uses less than a tenth of a core, so long. The kernel counts in hundredths of a second.
LOOK_SECONDS = 0.2
IDLE_CORES = 0.1
SETTLE_SECONDS = 10

Parts = Mapping[str, list[psutil.Process]]  # by what they do


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time that processes have used, with that of their children that ended."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])  # user, system, and the same of children
    return used


def memory_mib(processes: Iterable[psutil.Process]) -> float:
    """Resident memory. What processes share counts for each of them."""
    return float(sum(process.memory_info().rss for process in processes) / 2**20)


class Meter:
    """Tells how much CPU time each part used since the meter was made."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._before = self._now()

    def seconds(self) -> dict[str, float]:
        return {name: used - self._before[name] for name, used in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(processes) for name, processes in self._parts.items()}


async def settled(parts: Parts) -> None:
    """Wait until what was asked before is done with, which disturbs the next measurement; ten seconds at most."""
    limit = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < limit:
        meter = Meter(parts)
        await asyncio.sleep(LOOK_SECONDS)
        if sum(meter.seconds().values()) < IDLE_CORES * LOOK_SECONDS:
            return
