"""How the memory of web processes goes, sampled while they serve."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import psutil

from bench.group import Group

EVERY_SECONDS = 10.0
# Caches fill and pools open at first.
SETTLED_SECONDS = 120.0
MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """at: seconds of the steady clock."""

    at: float
    rss_mib: float


@dataclass
class Memory:
    """Samples of each web process, by id."""

    group: Group
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    async def watch(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_SECONDS)

    def look(self) -> None:
        for pid in self.group.pids("web"):
            try:
                rss = psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.samples.setdefault(pid, []).append(Sample(time.monotonic(), rss / MIB))

    def at_start(self) -> float:
        """All web processes together, once all of the first ones were there."""
        return self._together(min(series[0].at for series in self.samples.values()))

    def at_end(self) -> float:
        return self._together(max(series[-1].at for series in self.samples.values()))

    def most(self) -> float:
        """The largest that one process was."""
        return max(sample.rss_mib for series in self.samples.values() for sample in series)

    def slopes(self) -> list[float]:
        """MiB in an hour by which each process of the end grew since it had settled."""
        end = max(series[-1].at for series in self.samples.values())
        lasting = [series for series in self.samples.values() if series[-1].at > end - EVERY_SECONDS]
        return [slope for series in lasting if (slope := slope_of(series)) is not None]

    def _together(self, at: float) -> float:
        near = [
            min(series, key=lambda sample: abs(sample.at - at))
            for series in self.samples.values()
            if any(abs(sample.at - at) < EVERY_SECONDS for sample in series)
        ]
        return sum(sample.rss_mib for sample in near)


def slope_of(series: list[Sample]) -> float | None:
    """MiB in an hour; None where the process did not live for long enough to tell."""
    settled = [sample for sample in series if sample.at - series[0].at >= SETTLED_SECONDS]
    if len(settled) < 3:
        return None
    line = statistics.linear_regression([sample.at for sample in settled], [sample.rss_mib for sample in settled])
    return 3600 * line.slope
