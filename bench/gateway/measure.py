"""The run: everything started, each figure of all targets by turns, round after round."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.gateway import sharing, streams, swaps
from bench.gateway.double import DoubleProcess
from bench.gateway.load import Load, load
from bench.gateway.processes import memory_mib, settled
from bench.gateway.sharing import Sharing
from bench.gateway.streams import Streams
from bench.gateway.swaps import Swaps
from bench.gateway.targets import (
    LITELLM_VARIABLE,
    MODEL,
    Direct,
    Ours,
    Target,
    first_answer,
    restart,
    running_litellm,
    running_ours,
)
from bench.group import embedded_backends, full_backends
from bench.report import say

WARM_UP_CONNECTIONS = 16
BACKENDS = {
    "both": (full_backends, embedded_backends),
    "full": (full_backends,),
    "embedded": (embedded_backends,),
}


@dataclass(frozen=True)
class Scale:
    """How much to measure.

    seconds: of each round of load, by the number of connections. first_tokens: streams of each round, one after
    another. stream_tokens: of each stream that keeps a pace. rungs: how many of those are tried at a time, in climbs;
    every round has as many as the first rung. repeats: calls of the repeating load.
    """

    rounds: int
    seconds: Mapping[int, int]
    first_tokens: int
    stream_tokens: int
    rungs: tuple[int, ...]
    climbs: int
    repeats: int


FULL = Scale(
    rounds=5,
    seconds={1: 2, 16: 3, 64: 3},
    first_tokens=20,
    stream_tokens=100,
    rungs=(50, 100, 250, 500, 1000),
    climbs=3,
    repeats=5000,
)
QUICK = Scale(
    rounds=1,
    seconds={1: 1, 16: 1},
    first_tokens=3,
    stream_tokens=10,
    rungs=(5, 10),
    climbs=1,
    repeats=200,
)


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB: of the part that serves requests, and of all parts."""

    serving: float
    everything: float


@dataclass
class Measured:
    """What was measured of one target; lists have a value for each round. held: streams that kept their pace."""

    start_seconds: float = 0.0
    idle: Memory = Memory(0.0, 0.0)
    loaded: Memory = Memory(0.0, 0.0)
    loads: dict[int, list[Load]] = field(default_factory=dict)
    first_token: list[float] = field(default_factory=list)
    streams: list[Streams] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    sharing: Sharing | None = None
    swaps: Swaps | None = None


@dataclass
class Run:
    """All targets, and what was measured of each, by its name. litellm_version: empty where it does not take part."""

    scale: Scale
    direct: Direct
    proxies: Sequence[Target]
    ours: Sequence[Ours]
    double: DoubleProcess
    litellm_version: str = ""
    measured: dict[str, Measured] = field(default_factory=dict)

    @property
    def gateways(self) -> list[Target]:
        return [*self.proxies, *self.ours]


@contextmanager
def started(scale: Scale, backend: str) -> Iterator[Run]:
    """Start the upstream, LiteLLM Proxy where there is one, and us on one or both kinds of backends."""
    models = [MODEL, f"{MODEL}:{streams.paced(scale.stream_tokens)}"]
    with ExitStack() as running:
        double = running.enter_context(DoubleProcess([*models, f"{MODEL}:{sharing.SLOW}"]))
        executable = os.environ.get(LITELLM_VARIABLE, "")
        proxies = running.enter_context(running_litellm(executable, double, models)) if executable else []
        ours = [
            running.enter_context(running_ours(running.enter_context(make()), double)) for make in BACKENDS[backend]
        ]
        yield Run(scale, Direct(double), proxies, ours, double)


async def measure(run: Run) -> None:
    """Measure everything. What disturbs later figures comes last."""
    for target in [run.direct, *run.gateways]:
        run.measured[target.name] = Measured(loads={connections: [] for connections in run.scale.seconds})
    await _starts(run)
    await _warm_up(run)
    for number in range(run.scale.rounds):
        began = time.monotonic()
        await _round(run)
        say(f"round {number + 1} of {run.scale.rounds}: {time.monotonic() - began:.0f} s")
    for target in run.gateways:
        run.measured[target.name].loaded = _memory(target)
    for _ in range(run.scale.climbs):
        for target in run.gateways:
            run.measured[target.name].held.append(await _climb(run, target))
    for target in run.ours:
        await _sharing(run, target)


async def _starts(run: Run) -> None:
    """Start every process of a gateway once more, and look at its memory."""
    for target in [*run.proxies[:1], *run.ours]:  # both routes are one process
        measured = run.measured[target.name]
        measured.start_seconds = await restart(target)
        await settled(target.parts())
        measured.idle = _memory(target)
        say(f"{target.name}: first answer {measured.start_seconds:.1f} s after the start")
    for proxy in run.proxies:
        first, measured = run.measured[run.proxies[0].name], run.measured[proxy.name]
        measured.start_seconds, measured.idle = first.start_seconds, first.idle
        run.litellm_version = (await first_answer(proxy)).get("x-litellm-version", "unknown")


def _memory(target: Target) -> Memory:
    parts = list(target.parts().values())
    return Memory(memory_mib(parts[0]), sum(map(memory_mib, parts)))


async def _warm_up(run: Run) -> None:
    for target in [run.direct, *run.gateways]:
        await load(target, run.double, connections=WARM_UP_CONNECTIONS, seconds=run.scale.seconds[1])
    await streams.first_token([run.direct, *run.gateways], run.scale.first_tokens)


async def _round(run: Run) -> None:
    for connections, seconds in run.scale.seconds.items():
        for target in [run.direct, *run.gateways]:
            measured = await load(target, run.double, connections=connections, seconds=seconds)
            run.measured[target.name].loads[connections].append(measured)
    for name, value in (await streams.first_token([run.direct, *run.gateways], run.scale.first_tokens)).items():
        run.measured[name].first_token.append(value)
    for target in run.gateways:
        held = await streams.hold(target, streams=run.scale.rungs[0], tokens=run.scale.stream_tokens)
        run.measured[target.name].streams.append(held)


async def _climb(run: Run, target: Target) -> int:
    async def are_held(count: int) -> bool:
        found = await streams.hold(target, streams=count, tokens=run.scale.stream_tokens)
        say(f"{target.name}, {count} streams: {found}")
        return found.are_held

    return await streams.climb(run.scale.rungs, run.measured[target.name].held, are_held)


async def _sharing(run: Run, target: Ours) -> None:
    measured = run.measured[target.name]
    if await sharing.is_wired(target, run.double):
        measured.sharing = await sharing.share(
            target, run.double, rounds=run.scale.rounds, seconds=run.scale.seconds[1], repeats=run.scale.repeats
        )
    measured.swaps = await swaps.swap(target)
