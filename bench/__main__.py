"""Measure and print the figures of docs/benchmarks.md; see the package."""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench import figures, report, tasks
from bench.client import Client
from bench.group import Backends, Group, embedded_backends, full_backends, running_group
from bench.report import say, spread
from tests.ollama_server import OllamaTestProcess

SLOTS = 64  # of the model node, as many as the worker has threads
STREAMS = 500
# Streams fill a thread of the worker and a slot of the node each, for as long as they last.
STREAM_SLOTS = 512
PACE_MS = 50
BackendsMaker = Callable[[], AbstractContextManager[Backends]]
OLLAMA = ("--parallel", "600", "--max-queue", "10000")


@dataclass(frozen=True)
class Scale:
    """How much to measure."""

    rounds: int
    tasks: int
    chats: int
    stream_tokens: int
    idle_seconds: float


FULL = Scale(rounds=3, tasks=400, chats=40, stream_tokens=300, idle_seconds=30)
QUICK = Scale(rounds=2, tasks=200, chats=15, stream_tokens=60, idle_seconds=5)


@dataclass(frozen=True)
class Measured:
    """All figures of one kind of group."""

    backends: str
    throughput: list[figures.Throughput]
    first_token: list[figures.FirstToken]
    idle: figures.Idle
    followers: figures.Followers


def main() -> int:
    arguments = _parse()
    scale = QUICK if arguments.quick else FULL
    surroundings = report.surroundings("make bench" if not arguments.quick else "python -m bench --quick")
    measured = []
    if arguments.backend != "embedded":
        measured.append(measure(full_backends, scale))
    if arguments.backend != "full":
        measured.append(measure(embedded_backends, scale))
    text = "\n\n".join([surroundings, settings_table(scale), figures_table(measured), details_table(measured)])
    print(f"\n{text}")
    if scale is FULL and len(measured) == 2:
        report.write_section("figures", text)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed and memory.")
    parser.add_argument("--backend", choices=("both", "full", "embedded"), default="both")
    parser.add_argument("--quick", action="store_true", help="small numbers, to try it out; writes no page")
    return parser.parse_args()


def measure(make_backends: BackendsMaker, scale: Scale) -> Measured:
    """Measure one kind of group; each group begins with empty databases."""
    with make_backends() as backends:
        say(f"--- {backends.name}")
        name, (throughput, first_token, idle) = backends.name, asyncio.run(measure_speed(backends, scale))
    with make_backends() as backends:
        followers = asyncio.run(measure_followers(backends, scale))
    return Measured(name, throughput, first_token, idle, followers)


Speed = tuple[list[figures.Throughput], list[figures.FirstToken], figures.Idle]


async def measure_speed(backends: Backends, scale: Scale) -> Speed:
    with OllamaTestProcess(*OLLAMA) as ollama, running_group(backends, ollama, slots=SLOTS) as group:
        await warm_up(group)
        throughput, first_token = [], []
        for number in range(scale.rounds):
            throughput.append(await figures.throughput(group, scale.tasks))
            first_token.append(await figures.first_token(group, ollama.url, scale.chats))
            say(
                f"round {number + 1}: {throughput[-1].per_second:.0f} tasks/s, "
                f"first token {first_token[-1].ours:.1f} ms (directly {first_token[-1].direct:.1f} ms)"
            )
        say(f"looking at the idle group for {scale.idle_seconds:g} s")
        return throughput, first_token, await figures.idle(group, scale.idle_seconds)


async def measure_followers(backends: Backends, scale: Scale) -> figures.Followers:
    say(f"{STREAMS} streams of {scale.stream_tokens} tokens, one each {PACE_MS} ms")
    settings = {"SUTAZAI_RUNNER_THREADS": str(STREAM_SLOTS)}
    with (
        OllamaTestProcess(*OLLAMA) as ollama,
        running_group(backends, ollama, slots=STREAM_SLOTS, settings=settings) as group,
    ):
        await warm_up(group)
        return await figures.followers(
            group, streams=STREAMS, tokens=scale.stream_tokens, pace_ms=PACE_MS, ramp_seconds=5
        )


async def warm_up(group: Group) -> None:
    """Make the agent, and let every part do its first work before anything is measured."""
    client = Client(group.url, key=group.key)
    await tasks.create_agent(client)
    client.close()
    await figures.throughput(group, 100)


# Tables --------------------------------------------------------------------------------------------------------------


def settings_table(scale: Scale) -> str:
    streams = f"{STREAM_SLOTS} for the {STREAMS} followers"
    load = f"{figures.USERS} users, {figures.TOKENS_PER_TASK} tokens each, test server without delay"
    return report.table(
        ("settings", ""),
        [
            ("worker processes", f"1, with 64 threads ({streams})"),
            ("slots of the node", f"{SLOTS} ({streams})"),
            ("throughput", f"{scale.rounds} rounds of {scale.tasks} tasks, {load}"),
            ("first token", f"{scale.rounds} rounds of {scale.chats} chats each way, interleaved"),
            ("followers", f"{STREAMS} streams of {scale.stream_tokens} tokens, one each {PACE_MS} ms"),
            ("idle", f"{scale.idle_seconds:g} seconds"),
        ],
    )


Cell = Callable[[Measured], str]


def figures_table(measured: list[Measured]) -> str:
    rows: list[tuple[str, str, Cell]] = [
        ("tasks through the whole path, per second", "200 (embedded: 60)", lambda m: spread(_rates(m), 0)),
        ("added time to first token, one user, median", "10 ms (embedded: 60 ms)",
         lambda m: spread([item.added for item in m.first_token], 1, " ms")),
        (f"events delivered to {STREAMS} followers at {1000 // PACE_MS} tokens/s each", "all, in order, none missing",
         lambda m: f"{m.followers.complete} of {m.followers.streams} streams whole and in order"),
        ("idle CPU of the whole group", "under 2 % of one core (embedded)",
         lambda m: f"{sum(m.idle.cpu_percent.values()):.2f} %"),
        ("resident memory, web process idle", "under 150 MiB", lambda m: f"{m.idle.memory_mib['web']:.0f} MiB"),
    ]  # fmt: skip
    return _table("figure", "at least", rows, measured)


def details_table(measured: list[Measured]) -> str:
    rows: list[tuple[str, str, Cell]] = [
        ("task, submit to answer", "median / P95",
         lambda m: f"{_of(m, 'latency_median'):.0f} / {_of(m, 'latency_p95'):.0f} ms"),
        ("CPU for a task: web", "ms", lambda m: f"{_cpu(m, 'web'):.2f}"),
        ("CPU for a task: worker", "ms", lambda m: f"{_cpu(m, 'worker'):.2f}"),
        ("first token through us", "median", lambda m: spread([item.ours for item in m.first_token], 1, " ms")),
        ("first token directly", "median", lambda m: spread([item.direct for item in m.first_token], 1, " ms")),
        ("tokens to the followers", "received of sent",
         lambda m: f"{m.followers.tokens_received} of {m.followers.tokens_expected}"),
        ("lag behind the pace", "median / P99 / most",
         lambda m: f"{m.followers.lag_median:.0f} / {m.followers.lag_p99:.0f} / {m.followers.lag_max:.0f} ms"),
        (f"first token while {STREAMS} streams start", "median", lambda m: f"{m.followers.first_token_median:.0f} ms"),
        ("CPU of the streams: web, worker", "cores",
         lambda m: f"{m.followers.cpu_cores['web']:.2f}, {m.followers.cpu_cores['worker']:.2f}"),
        ("idle CPU: web, worker, beat, rest", "% of one core",
         lambda m: ", ".join(f"{value:.2f}" for value in _idle_cpu(m))),
        ("memory: web, worker, beat", "MiB",
         lambda m: ", ".join(f"{m.idle.memory_mib[role]:.0f}" for role in ("web", "worker", "beat"))),
    ]  # fmt: skip
    return _table("detail", "as", rows, measured)


def _table(first: str, second: str, rows: list[tuple[str, str, Cell]], measured: list[Measured]) -> str:
    head = (first, second, *(item.backends for item in measured))
    return report.table(head, ((name, note, *(cell(item) for item in measured)) for name, note, cell in rows))


def _rates(measured: Measured) -> list[float]:
    return [item.per_second for item in measured.throughput]


def _of(measured: Measured, name: str) -> float:
    return statistics.median(getattr(item, name) for item in measured.throughput)


def _cpu(measured: Measured, role: str) -> float:
    return statistics.median(item.cpu[role] for item in measured.throughput)


def _idle_cpu(measured: Measured) -> list[float]:
    cpu = measured.idle.cpu_percent
    return [cpu["web"], cpu["worker"], cpu["beat"], cpu["rest"] + cpu["web-master"]]


if __name__ == "__main__":
    sys.exit(main())
