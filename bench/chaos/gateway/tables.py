"""The tables of the gateway's faults."""

from bench import report
from bench.chaos.gateway.calls import Outcome
from bench.chaos.gateway.verdict import CallVerdict

OUTCOMES = [outcome for outcome in Outcome if outcome not in {Outcome.OPEN, Outcome.WRONG}]
MUST_BE_ZERO = ("unexcused", "late", "untold", "unfinished", "disagreeing", "other")


def call_table(verdicts: list[CallVerdict]) -> str:
    """The counts of calls that must be zero, and beside them what happened."""
    head = ("fault", "calls", *(outcome.value for outcome in OUTCOMES), *MUST_BE_ZERO, "wait, most")
    return report.table(head, map(_row, verdicts))


def _row(verdict: CallVerdict) -> list[str]:
    counts = [
        verdict.outcomes.total(),
        *(verdict.outcomes[outcome] for outcome in OUTCOMES),
        *(verdict.unexcused, verdict.late, verdict.untold, verdict.unfinished, verdict.disagreeing),
        verdict.wrong.total(),
    ]
    return [verdict.fault, *map(str, counts), f"{verdict.longest_wait:.1f} s"]


def call_notes(verdicts: list[CallVerdict]) -> str:
    lines = []
    for verdict in verdicts:
        refused = ", ".join(f"{count} × {status}" for status, count in sorted(verdict.refusals.items()))
        parts = [f"refused: {refused}"] if refused else []
        lines.append(f"- {verdict.fault}: {'; '.join([*parts, *verdict.notes])}")
        if broken := verdict.broken():
            lines.append(f"  - **broken**: {', '.join(f'{count} {name}' for name, count in broken.items())}")
            lines += [f"  - {text}" for text in verdict.examples]
    return "\n".join(lines)
