"""What was found, as tables."""

import statistics
from collections.abc import Callable, Sequence

from bench import report
from bench.load import generator
from bench.load.measure import GOAL_PER_SECOND, SECONDS_OF_A_USER, SLOTS, Found, Scale
from bench.load.mix import AGENTS, AUTH, HEALTH_KIND, KINDS, LIST, READ, SUBMIT, WRITE
from bench.load.verdict import Measured
from bench.load.watch import Costs

NOTHING = "–"


def settings_table(scale: Scale, found: Sequence[Found]) -> str:
    server = found[0].server
    shares = ", ".join(
        f"{sum(kind.percent for kind in KINDS if kind.group == group):g} % {group}"
        for group in (READ, LIST, WRITE, AUTH)
    )
    return report.table(
        ("settings", ""),
        [
            ("processes", f"{server.web_processes} web, 1 worker, beat; {SLOTS} slots of a model without delay"),
            ("rows", f"{server.rows:,} seeded, of {server.users:,} users, each with a key and a connection"),
            ("arrivals", f"by chance (Poisson), a user asks every {SECONDS_OF_A_USER} s at {GOAL_PER_SECOND}/s"),
            ("mix", f"{shares}; beside it {generator.HEALTH_PER_SECOND:g} health checks a second"),
            ("climb", f"{scale.rate_seconds:g} s for each rate, up to the first that is not held"),
            ("rounds", f"{scale.rounds} of {scale.round_seconds:g} s at the highest rate that was held"),
            ("memory", f"of the web processes together, over {scale.soak_seconds:g} s" if scale.soak_seconds else "–"),
        ],
    )


def goals_table(found: Sequence[Found]) -> str:
    """The figures that are goals, in the rounds: the median, and the worst."""
    rows: list[tuple[str, str, Callable[[Found], str]]] = [
        ("requests per second, all goals met", str(GOAL_PER_SECOND), _held),
        ("`/health` idle, median", "10 ms", lambda f: f"{f.idle.median_of(HEALTH_KIND.name):.1f} ms"),
        ("`/health` under load, median", "10 ms", lambda f: _spread(f, lambda m: m.median_of(HEALTH_KIND.name))),
        ("`/api/v1/agents`, P95", "200 ms", lambda f: _spread(f, lambda m: m.p95_of(AGENTS))),
        ("task submit, P95", "100 ms", lambda f: _spread(f, lambda m: m.p95_of(SUBMIT))),
        ("slowest other call, P95", "200 ms", lambda f: _spread(f, lambda m: m.slowest_other[1])),
        ("errors", "0.1 %", _errors),
        ("invalid rounds", "0", lambda f: f"{sum(not m.is_valid for m in f.rounds)} of {len(f.rounds)}"),
        ("memory of web, slope", "flat", lambda f: _memory(f, lambda c: f"{c.memory_slope:+.1f} MiB an hour")),
        ("memory of web, most", "300 MiB", lambda f: _memory(f, lambda c: f"{c.memory_most:.0f} MiB")),
    ]  # fmt: skip
    head = ("figure", "goal", *(item.server.target.name for item in found))
    return report.table(head, ((name, goal, *(cell(item) for item in found)) for name, goal, cell in rows))


def _held(found: Found) -> str:
    deciding = [item for item in found.climb if item.run.per_second == found.held]
    return f"{found.held}, in a run that was invalid" if any(item.flaws for item in deciding) else str(found.held)


def _spread(found: Found, value: Callable[[Measured], float]) -> str:
    return report.spread([value(item) for item in found.rounds], 1, " ms") if found.rounds else NOTHING


def _memory(found: Found, show: Callable[[Costs], str]) -> str:
    return show(found.soak.costs) if found.soak else NOTHING


def _errors(found: Found) -> str:
    if not found.rounds:
        return NOTHING
    requests = sum(item.run.requests for item in found.rounds)
    errors = sum((item.run.errors.total() for item in found.rounds), 0)
    if errors:
        return f"{errors} of {requests:,}"
    return f"none of {requests:,}: under {300 / requests:.4f} % (95 % sure)"


def climb_table(found: Found) -> str:
    """Every rate that was tried."""
    runs = [*found.climb, *([found.at_goal] if found.at_goal else [])]
    head = (
        "per second", "health median", "agents P95", "submit P95", "slowest other P95", "errors", "cores: web",
        "worker", *found.server.target.apart(), "generator", "late P99", "verdict",
    )  # fmt: skip
    rows = (
        (
            f"{item.run.per_second:g}",
            f"{item.median_of(HEALTH_KIND.name):.1f} ms",
            f"{item.p95_of(AGENTS):.0f} ms",
            f"{item.p95_of(SUBMIT):.0f} ms",
            f"{item.slowest_other[1]:.0f} ms",
            f"{item.run.error_percent:.2f} %",
            *(f"{item.costs.cores[name]:.2f}" for name in ("web", "worker", *found.server.target.apart())),
            f"{item.run.cpu:.2f}",
            f"{item.run.lag_p99:.1f} ms",
            item.verdict,
        )
        for item in runs
    )
    return report.table(head, rows)


def kinds_table(found: Found) -> str:
    """Each kind of request, in the round in the middle by the P95 of all that is no sign-in."""
    if not found.rounds:
        return ""
    middle = sorted(found.rounds, key=lambda item: item.slowest_other[1])[len(found.rounds) // 2]
    rows = (
        (
            name,
            f"{times.requests:,}",
            *(f"{value:.1f}" for value in (times.median, times.p95, times.p99, times.most)),
            ", ".join(f"{count} × {reason}" for reason, count in times.errors.items()) or "none",
        )
        for name, times in middle.run.kinds.items()
    )
    head = (f"at {found.held}/s, ms", "requests", "median", "P95", "P99", "most", "errors")
    return report.table(head, rows)


def costs_table(found: Sequence[Found]) -> str:
    rows: list[tuple[str, Callable[[Found], str]]] = [
        ("CPU for a request, ms", _per_request),
        ("generator: late P99, of a core, steal",
         lambda f: _worst(f, lambda m: f"{m.run.lag_p99:.1f} ms, {100 * m.run.cpu:.0f} %, {m.costs.steal:.1f} %")),
        ("errors by reason", lambda f: ", ".join(_reasons(f)) or "none"),
    ]  # fmt: skip
    head = ("in the rounds", *(item.server.target.name for item in found))
    return report.table(head, ((name, *(cell(item) for item in found)) for name, cell in rows))


def _per_request(found: Found) -> str:
    if not found.rounds:
        return NOTHING
    parts = found.rounds[0].costs.cores

    def cost(name: str) -> float:
        return statistics.median(
            1000 * item.costs.cores[name] * item.costs.seconds / item.run.requests for item in found.rounds
        )

    return ", ".join(f"{name} {cost(name):.2f}" for name in parts)


def _worst(found: Found, show: Callable[[Measured], str]) -> str:
    return show(max(found.rounds, key=lambda item: item.run.lag_p99)) if found.rounds else NOTHING


def _reasons(found: Found) -> list[str]:
    total = sum((item.run.errors for item in found.rounds), start=type(found.idle.run.errors)())
    return [f"{count} × {reason}" for reason, count in total.most_common()]
