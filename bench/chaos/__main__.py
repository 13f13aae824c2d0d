"""Break everything in turn and count what was lost; see the package. Exits with 1 when a requirement is broken."""

import argparse
import asyncio
import dataclasses
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.chaos.gateway.faults import CALL_FAULTS
from bench.chaos.gateway.run import run_gateway
from bench.chaos.gateway.scene import RATE
from bench.chaos.gateway.tables import call_notes, call_table
from bench.chaos.outages import TASK_FAULTS
from bench.chaos.run import FULL, SHORT, faults_for, run_backend, settings_of
from bench.chaos.scene import Scale
from bench.chaos.verdict import Verdict

EMBEDDED, FULL_BACKENDS = ["embedded", "small-disk", "own-clock"], ["rabbitmq", "redis"]
BACKENDS = {"embedded": EMBEDDED, "full": FULL_BACKENDS, "both": [*FULL_BACKENDS, *EMBEDDED]}
PARTS = ("tasks", "gateway")
SKIPPED = "skipped:"
SECTIONS = {"tasks": "chaos", "gateway": "chaos-gateway"}
LANES = {"quick": ["quick"], "celery": ["celery"], "both": ["quick", "celery"]}


def main() -> int:
    arguments = _parse()
    scale = SHORT if arguments.short else FULL
    if arguments.tasks:
        scale = dataclasses.replace(scale, tasks=arguments.tasks)
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    surroundings = report.surroundings(f"python -m bench.chaos {' '.join(sys.argv[1:])}".strip())
    print(f"seed {seed}", file=sys.stderr, flush=True)
    told: dict[str, list[str]] = {part: [] for part in PARTS}
    is_broken = False
    for backend in BACKENDS[arguments.backend]:
        for part, text, is_whole in _results(backend, arguments, scale, seed):
            told[part].append(text)
            print(f"\n{text}", flush=True)
            is_broken |= not is_whole
    if scale == FULL and (arguments.backend, arguments.lane) == ("both", "both") and not arguments.fault:
        for part in PARTS:
            if told[part]:
                report.write_section(
                    SECTIONS[part], "\n\n".join([surroundings, settings_text(part, scale, seed), *told[part]])
                )
    skipped = sum(text.count(SKIPPED) for texts in told.values() for text in texts)
    tried = f" {skipped} faults could not be tried here; the notes say why." if skipped else ""
    print(("\nA requirement is broken." if is_broken else "\nEvery requirement holds.") + tried)
    return int(is_broken)


def _results(backend: str, arguments: argparse.Namespace, scale: Scale, seed: int) -> Iterator[tuple[str, str, bool]]:
    """Put one backend to its faults; yields what they belong to, the tables, and whether every requirement holds."""
    if arguments.part != "gateway" and (faults := faults_for(backend, arguments.fault, TASK_FAULTS)):
        with tempfile.TemporaryDirectory(prefix="sutazai-chaos-") as folder:
            name, verdicts = asyncio.run(run_backend(backend, faults, scale, seed=seed, folder=Path(folder)))
        is_whole = not any(verdict.broken(scale.rerun_limit_seconds) for verdict in verdicts)
        yield "tasks", f"**{name}**\n\n{counts_table(verdicts)}\n\n{notes(verdicts, scale)}", is_whole
    if arguments.part != "tasks" and (call_faults := faults_for(backend, arguments.fault, CALL_FAULTS)):
        for lane in LANES[arguments.lane]:
            name, call_verdicts = asyncio.run(run_gateway(backend, lane, call_faults, scale, seed=seed))
            title = f"**Gateway, {lane} lane, {name}**"
            is_whole = not any(verdict.broken() for verdict in call_verdicts)
            yield "gateway", f"{title}\n\n{call_table(call_verdicts)}\n\n{call_notes(call_verdicts)}", is_whole


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Kill everything in turn.")
    parser.add_argument("--backend", choices=BACKENDS, default="both")
    parser.add_argument("--part", choices=PARTS, help="tasks that come by the API, or calls of the gateway alone")
    parser.add_argument("--lane", choices=LANES, default="both", help="what runs the calls of the gateway")
    parser.add_argument("--tasks", type=int, help="tasks for each fault (default: 500, in the short form 30)")
    parser.add_argument("--seed", type=int, help="for everything that is drawn by lot; printed when not given")
    parser.add_argument("--short", action="store_true", help="a few tasks, short leases, one kill of each")
    names = sorted({fault.name for fault in (*TASK_FAULTS, *CALL_FAULTS)})
    parser.add_argument("--fault", action="append", default=[], choices=names)
    return parser.parse_args()


def settings_text(part: str, scale: Scale, seed: int) -> str:
    own = ", ".join(f"`{name}={value}`" for name, value in settings_of(scale).items())
    if part == "gateway":
        return (
            f"Seed {seed}; {scale.calls} calls for each fault at {RATE} a second, {scale.streams} open streams "
            f"where the web process is killed; what goes away does so for {scale.node_down_seconds:g} s; "
            f"settings {own}; "
            f"limits of the nodes for silence {scale.gap_seconds:g} s (only where a test server is silent)."
        )
    return (
        f"Seed {seed}; {scale.tasks} tasks for each fault at 50 submissions per second; {scale.kills} kills of each "
        f"process; broker down for {scale.broker_down_seconds:g} s; PostgreSQL, Redis and room on the disk away for "
        f"{scale.node_down_seconds:g} s, SQLite locked for {scale.lock_seconds:g} s; beats are watched for "
        f"{scale.turns} turns of {scale.turn_seconds:g} s; settings {own}; "
        f"one task in twenty runs for {scale.long_answer_seconds:g} s; "
        f"gap limit of the node {scale.gap_seconds:g} s (only where the test server falls silent)."
    )


def counts_table(verdicts: list[Verdict]) -> str:
    """The counts that must be zero, and beside them what happened."""
    must_be_zero = ("lost", "duplicated", "unexpected", "unfinished", "died", "cut", "misnumbered", "other")
    happened = ("runs", "reconnected", "rerun, most")
    return report.table(("fault", "accepted", "succeeded", "failed", *must_be_zero, *happened), map(_row, verdicts))


def _row(verdict: Verdict) -> list[str]:
    counts = [
        *(verdict.accepted, verdict.succeeded, verdict.failed.total(), verdict.lost, verdict.duplicated),
        *(verdict.unexpected, verdict.unfinished, verdict.died, verdict.cut, verdict.misnumbered),
        verdict.wrong.total(),
        *(verdict.executions, verdict.reconnections),
    ]
    rerun = f"{max(verdict.rerun_seconds):.1f} s" if verdict.rerun_seconds else "–"
    return [verdict.fault, *map(str, counts), rerun]


def notes(verdicts: list[Verdict], scale: Scale) -> str:
    lines = []
    for verdict in verdicts:
        if verdict.skipped:
            lines.append(f"- {verdict.fault}: {SKIPPED} {verdict.skipped}")
            continue
        failed = ", ".join(f"{count} × {code}" for code, count in verdict.failed.items())
        parts = [f"failed: {failed}"] if failed else []
        parts += [f"{len(verdict.rerun_seconds)} running tasks lost their worker"] if verdict.rerun_seconds else []
        parts += [f"{verdict.requests} requests for {verdict.accepted} acceptances", *verdict.notes]
        lines.append(f"- {verdict.fault}: {'; '.join(parts)}")
        if broken := verdict.broken(scale.rerun_limit_seconds):
            lines.append(f"  - **broken**: {', '.join(f'{count} {name}' for name, count in broken.items())}")
            lines += [f"  - {text}" for text in verdict.examples]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
