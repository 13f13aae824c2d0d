"""Break everything in turn and count what was lost; see the package. Exits with 1 when a requirement is broken."""

import argparse
import asyncio
import dataclasses
import secrets
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.chaos.faults import FAULTS, Scale
from bench.chaos.run import FULL, SHORT, faults_for, run_backend, settings_of
from bench.chaos.verdict import Verdict

BACKENDS = {"embedded": ["embedded"], "full": ["rabbitmq", "redis"], "both": ["rabbitmq", "redis", "embedded"]}


def main() -> int:
    arguments = _parse()
    scale = SHORT if arguments.short else FULL
    if arguments.tasks:
        scale = dataclasses.replace(scale, tasks=arguments.tasks)
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    surroundings = report.surroundings(f"python -m bench.chaos {' '.join(sys.argv[1:])}".strip())
    print(f"seed {seed}", file=sys.stderr, flush=True)
    parts, is_broken = [], False
    for backend in BACKENDS[arguments.backend]:
        if faults := faults_for(backend, arguments.fault):
            with tempfile.TemporaryDirectory(prefix="sutazai-chaos-") as folder:
                name, verdicts = asyncio.run(run_backend(backend, faults, scale, seed=seed, folder=Path(folder)))
            parts.append(f"**{name}**\n\n{counts_table(verdicts)}\n\n{notes(verdicts, scale)}")
            print(f"\n{parts[-1]}", flush=True)
            is_broken |= any(verdict.broken(scale.rerun_limit_seconds) for verdict in verdicts)
    if scale == FULL and arguments.backend == "both" and not arguments.fault:
        report.write_section("chaos", "\n\n".join([surroundings, settings_text(scale, seed), *parts]))
    print("\nA requirement is broken." if is_broken else "\nEvery requirement holds.")
    return int(is_broken)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Kill everything in turn.")
    parser.add_argument("--backend", choices=BACKENDS, default="both")
    parser.add_argument("--tasks", type=int, help="tasks for each fault (default: 500, in the short form 30)")
    parser.add_argument("--seed", type=int, help="for everything that is drawn by lot; printed when not given")
    parser.add_argument("--short", action="store_true", help="a few tasks, short leases, one kill of each")
    parser.add_argument("--fault", action="append", default=[], choices=[fault.name for fault in FAULTS])
    return parser.parse_args()


def settings_text(scale: Scale, seed: int) -> str:
    own = ", ".join(f"`{name}={value}`" for name, value in settings_of(scale).items())
    return (
        f"Seed {seed}; {scale.tasks} tasks for each fault at 50 submissions per second; {scale.kills} kills of each "
        f"process; broker down for {scale.broker_down_seconds:g} s; settings {own}; "
        f"one task in twenty runs for {scale.long_answer_seconds:g} s; "
        f"gap limit of the node {scale.gap_seconds:g} s (only where the test server falls silent)."
    )


def counts_table(verdicts: list[Verdict]) -> str:
    """The counts that must be zero, and beside them what happened."""
    must_be_zero = ("lost", "duplicated", "unexpected", "unfinished", "died", "cut", "misnumbered")
    happened = ("runs", "reconnected", "rerun, most")
    return report.table(("fault", "accepted", "succeeded", "failed", *must_be_zero, *happened), map(_row, verdicts))


def _row(verdict: Verdict) -> list[str]:
    counts = [
        *(verdict.accepted, verdict.succeeded, verdict.failed.total(), verdict.lost, verdict.duplicated),
        *(verdict.unexpected, verdict.unfinished, verdict.died, verdict.cut, verdict.misnumbered),
        *(verdict.executions, verdict.reconnections),
    ]
    rerun = f"{max(verdict.rerun_seconds):.1f} s" if verdict.rerun_seconds else "–"
    return [verdict.fault, *map(str, counts), rerun]


def notes(verdicts: list[Verdict], scale: Scale) -> str:
    lines = []
    for verdict in verdicts:
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
