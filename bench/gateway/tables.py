"""What a run found, as tables: against LiteLLM Proxy's better route, and each target by itself."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench import report
from bench.gateway import sharing, streams, swaps, targets
from bench.gateway.double import TOKENS
from bench.gateway.load import Load, has_wrk
from bench.gateway.measure import Measured, Run, Scale
from bench.report import spread

NOT_MEASURED = "–"
Values = Callable[[Measured, Measured], list[float]]  # of a target, given what was measured directly


@dataclass(frozen=True)
class Figure:
    """One line that is compared. goal, reach: how often better than LiteLLM Proxy it is to be."""

    name: str
    goal: float
    reach: float
    values: Values
    digits: int
    unit: str = ""
    more_is_better: bool = False

    def better(self, ours: float, theirs: float) -> float:
        """How many times better ours is; below 1 it is worse."""
        high, low = (ours, theirs) if self.more_is_better else (theirs, ours)
        return high / low if low > 0 else math.inf

    def times(self, factor: float) -> str:
        """Write a factor as the goals are written: "8×" of what is good, "1/8" of what is not."""
        number = f"{factor:.1f}".removesuffix(".0")
        return f"{number}×" if self.more_is_better else f"1/{number}"


def figures(scale: Scale) -> list[Figure]:
    """All that is compared, in the order of the goals."""
    loaded = [connections for connections in scale.seconds if connections > 1]
    return [
        *(
            Figure(f"calls per second, {_connections(n)}", 8, 15, _of_loads(n, lambda load: load.per_second), 0,
                   more_is_better=True)
            for n in loaded
        ),
        *(
            Figure(f"CPU for a call, {_connections(n)}", 8, 15, _of_loads(n, lambda load: load.cpu_sum), 2, " ms")
            for n in loaded
        ),
        Figure("added latency, one connection, median", 5, 8, _added_latency, 2, " ms"),
        Figure("added time to the first token, median", 6, 12, _added_first_token, 2, " ms"),
        Figure("CPU for a streamed token", 8, 12, lambda m, _: [item.cpu_us for item in m.streams], 0, " µs"),
        Figure(f"streams held at {1000 // streams.PACE_MS} tokens/s each", 5, 10, lambda m, _: [*m.held], 0,
               more_is_better=True),
        Figure("resident memory, process that serves", 2, 3, lambda m, _: [m.loaded.serving], 0, " MiB"),
        Figure("resident memory, all processes", 2, 3, lambda m, _: [m.loaded.everything], 0, " MiB"),
        Figure("start to first answer", 4, 8, lambda m, _: [m.start_seconds], 1, " s"),
    ]  # fmt: skip


def _of_loads(connections: int, value: Callable[[Load], float]) -> Values:
    return lambda measured, _: [value(load) for load in measured.loads[connections]]


def _added_latency(measured: Measured, direct: Measured) -> list[float]:
    rounds = zip(measured.loads[1], direct.loads[1], strict=True)
    return [load.counted.median - straight.counted.median for load, straight in rounds]


def _added_first_token(measured: Measured, direct: Measured) -> list[float]:
    return [value - straight for value, straight in zip(measured.first_token, direct.first_token, strict=True)]


# Compared ------------------------------------------------------------------------------------------------------------


def compared_table(run: Run) -> str:
    """Ours beside LiteLLM Proxy's better route, with what that makes; without LiteLLM Proxy, ours alone."""
    head = ["figure"]
    if run.proxies:
        head += ["at least", "reach for", "LiteLLM Proxy"]
    for target in run.ours:
        head += [target.name, "times"] if run.proxies else [target.name]
    return report.table(head, (_compared(figure, run) for figure in figures(run.scale)))


def _compared(figure: Figure, run: Run) -> list[str]:
    direct, cells = run.measured[run.direct.name], [figure.name]
    theirs = 0.0
    if run.proxies:
        routes = [figure.values(run.measured[proxy.name], direct) for proxy in run.proxies]
        best = (max if figure.more_is_better else min)(routes, key=statistics.median)
        theirs = statistics.median(best)
        cells += [figure.times(figure.goal), figure.times(figure.reach), spread(best, figure.digits, figure.unit)]
    for target in run.ours:
        values = figure.values(run.measured[target.name], direct)
        cells.append(spread(values, figure.digits, figure.unit))
        if run.proxies:
            better = figure.better(statistics.median(values), theirs)
            cells.append(figure.times(better) if theirs > 0 else NOT_MEASURED)
    return cells


# What is shared, and the order of models -----------------------------------------------------------------------------


def shared_table(run: Run) -> str:
    def of(value: Callable[[sharing.Sharing], str]) -> list[str]:
        found = (run.measured[target.name].sharing for target in run.ours)
        return [value(item) if item else "no cache yet" for item in found]

    swapped = [run.measured[target.name].swaps for target in run.ours]
    calls = f"upstream calls for {sharing.EQUAL_CALLS} equal ones at a time"
    rows = [
        ["answer from the cache, one connection, median", "2 ms; 1 ms",
         *of(lambda item: spread([hit.counted.median for hit in item.hits], 2, " ms"))],
        [f"{calls}, one tenant", "1", *of(lambda item: str(item.one_tenant))],
        [f"{calls}, two tenants", "2", *of(lambda item: str(item.two_tenants))],
        [f"repeating load, {sharing.PROMPTS} prompts, share of hits", "80 %",
         *of(lambda item: f"{100 * item.hit_ratio:.0f} %")],
        [f"loads for the models {' '.join(swaps.ORDER)}, room for one", "3",
         *(str(item.loads) if item else "no fair queue yet" for item in swapped)],
        ["longest wait of them", "SUTAZAI_SWAP_WAIT_SECONDS",
         *(f"{item.longest_wait:.1f} s" if item else "no fair queue yet" for item in swapped)],
    ]  # fmt: skip
    return report.table(["figure", "goal", *(target.name for target in run.ours)], rows)


# Each by itself ------------------------------------------------------------------------------------------------------


def details_table(run: Run) -> str:
    everybody = [run.direct, *run.gateways]
    rows = _load_rows(run.scale) + _stream_rows(run.scale) + MEMORY_ROWS
    lines = ([name, *(cell(run.measured[target.name]) for target in everybody)] for name, cell in rows)
    return report.table(["detail", *(target.name for target in everybody)], lines)


Row = tuple[str, Callable[[Measured], str]]


def _load_rows(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for connections in scale.seconds:
        at, of = _connections(connections), _details_of(connections)
        rows += [
            (f"calls per second, {at}", of(lambda load: f"{load.per_second:.0f}")),
            (f"median / P95, {at}, ms", of(lambda load: f"{load.counted.median:.2f} / {load.counted.p95:.2f}")),
            (f"CPU for a call, {at}, ms", of(lambda load: _shares(load.cpu))),
            (f"beside it in its servers, {at}, ms", of(lambda load: _shares(load.apart))),
            (f"calls that failed, {at}", partial(_failed, connections)),
        ]
    return rows


def _failed(connections: int, measured: Measured) -> str:
    return str(sum(load.counted.failed for load in measured.loads[connections]))


def _connections(count: int) -> str:
    return "one connection" if count == 1 else f"{count} connections"


def _details_of(connections: int) -> Callable[[Callable[[Load], str]], Callable[[Measured], str]]:
    """Show the round in the middle of those that a target had, by calls per second."""

    def of(show: Callable[[Load], str]) -> Callable[[Measured], str]:
        return lambda measured: show(_middle(measured.loads[connections], key=lambda load: load.per_second))

    return of


def _stream_rows(scale: Scale) -> list[Row]:
    return [
        ("first token, median, ms", lambda m: f"{statistics.median(m.first_token):.2f}"),
        (f"{scale.rungs[0]} streams: whole", lambda m: _streams(m, lambda item: f"{item.whole} of {item.streams}")),
        ("P95 of the first token, ms", lambda m: _streams(m, lambda item: f"{item.first_token_p95:.0f}")),
        ("P95 of the gaps, ms", lambda m: _streams(m, lambda item: f"{item.gap_p95:.0f}")),
        ("streams held, by climb", lambda m: ", ".join(map(str, m.held)) or NOT_MEASURED),
    ]


MEMORY_ROWS: list[Row] = [
    ("memory idle: serving, all, MiB", lambda m: _memory(m.idle.serving, m.idle.everything)),
    ("memory after load: serving, all, MiB", lambda m: _memory(m.loaded.serving, m.loaded.everything)),
]


def _middle(rounds: Sequence[Load], key: Callable[[Load], float]) -> Load:
    return sorted(rounds, key=key)[len(rounds) // 2]


def _streams(measured: Measured, show: Callable[[streams.Streams], str]) -> str:
    """Show the round in the middle, by how late the first tokens came."""
    if not measured.streams:
        return NOT_MEASURED
    return show(sorted(measured.streams, key=lambda item: item.first_token_p95)[len(measured.streams) // 2])


def _shares(cpu: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in cpu.items()) or NOT_MEASURED


def _memory(serving: float, everything: float) -> str:
    return f"{serving:.0f}, {everything:.0f}" if everything else NOT_MEASURED


# Settings ------------------------------------------------------------------------------------------------------------


def settings_table(run: Run) -> str:
    scale = run.scale
    seconds = ", ".join(f"{value} s with {connections}" for connections, value in scale.seconds.items())
    pace = f"{scale.stream_tokens} tokens, one each {streams.PACE_MS} ms"
    by = "wrk" if has_wrk() else "bench.client, because wrk is not installed"
    proxy = (
        f"{run.litellm_version}, one worker, no database, no retries, no logs; both routes, the better one counts"
        if run.proxies
        else f"not measured, {targets.LITELLM_VARIABLE} does not name its executable"
    )
    rows = [
        (
            "load",
            f"rounds: {scale.rounds}; {seconds} connections, by {by}; answers of {TOKENS} tokens, without delay",
        ),
        ("first token", f"rounds: {scale.rounds}; {scale.first_tokens} streams one after another, targets by turns"),
        ("CPU for a token", f"rounds: {scale.rounds}; {scale.rungs[0]} streams of {pace}"),
        ("streams held", f"climbs: {scale.climbs}; over {', '.join(map(str, scale.rungs))} streams of {pace}"),
        ("ours", "one web process, one worker; key, request limit and token budget counted, audit log, row committed"),
        ("LiteLLM Proxy", proxy),
    ]
    return report.table(("settings", ""), rows)
