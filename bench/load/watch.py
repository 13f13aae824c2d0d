"""What a run costs the machine: processor time by process, memory of the web processes, time that the host kept."""

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.gateway.processes import Meter, memory_mib
from bench.gateway.targets import Ours

LOOK_SECONDS = 1.0
STEAL = 7  # its place in the kernel's line of figures; those of guests after it are counted twice


@dataclass(frozen=True)
class Costs:
    """cores: how many each part used on average. steal: percent of the machine's time. memory: MiB, by seconds."""

    seconds: float
    cores: Mapping[str, float]
    steal: float
    memory: Sequence[tuple[float, float]]

    @property
    def memory_most(self) -> float:
        return max(mib for _, mib in self.memory)

    @property
    def memory_slope(self) -> float:
        """MiB in an hour."""
        return 3600 * slope(self.memory)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through points that misses them by the least squares; 0 for a single point."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else 0.0


class Watch:
    """Looks on while its block runs; `costs` tells afterwards."""

    costs: Costs

    def __init__(self, target: Ours) -> None:
        self._target = target
        self._memory: list[tuple[float, float]] = []
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="watch")

    def __enter__(self) -> Self:
        parts = self._target.parts()
        self._web = parts["web"]
        self._meter = Meter(parts | self._target.apart())
        self._machine = machine_time()
        self._began = time.monotonic()
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._began
        self._is_over.set()
        self._looking.join()
        (total, stolen), (total_now, stolen_now) = self._machine, machine_time()
        self.costs = Costs(
            seconds,
            {name: used / seconds for name, used in self._meter.seconds().items()},
            steal=100 * (stolen_now - stolen) / max(1, total_now - total),
            memory=self._memory,
        )

    def _look(self) -> None:
        while True:
            self._memory.append((time.monotonic() - self._began, memory_mib(self._web)))
            if self._is_over.wait(LOOK_SECONDS):
                return


def machine_time() -> tuple[int, int]:
    """The time of all processors so far, and what of it the host gave to others. In hundredths of a second."""
    figures = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    return sum(figures[: STEAL + 1]), figures[STEAL]
