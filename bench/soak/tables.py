"""The table of a soak, and what one must know to judge it."""

from collections import Counter

from bench import report
from bench.chaos.gateway.calls import Outcome
from bench.figures import percentile
from bench.soak import load, probe
from bench.soak.faults import FAULTS, WEB_PROCESSES
from bench.soak.memory import EVERY_SECONDS, Memory
from bench.soak.verdict import NO_FAULT, SoakVerdict


def settings_text(minutes: float, seed: int) -> str:
    when = ", ".join(f"{fault.title} after {fault.at * minutes:g} min" for fault in FAULTS)
    return (
        f"Seed {seed}; {minutes:g} minutes on PostgreSQL, Redis and RabbitMQ with {WEB_PROCESSES} web processes; "
        f"each second {load.TASKS:g} tasks with followers, {load.CALLS:g} calls of the gateway, {load.READS:g} lists "
        f"of the API, {load.PAGES:g} page of the console, and {1 / probe.EVERY_SECONDS:g} probes, of "
        f"{probe.TIMEOUT_SECONDS:g} s at most; {when}."
    )


def results(verdict: SoakVerdict, memory: Memory) -> str:
    slopes = ", ".join(f"{slope:+.1f}" for slope in memory.slopes())
    took = [1000 * one.seconds for one in verdict.probes]
    counts = verdict.tasks
    return report.table(
        ("what", "limit", "result"),
        [
            (
                "probes that failed",
                "1 of 1000",
                f"{verdict.failed.total()} of {len(verdict.probes)}, {verdict.due} were due",
            ),
            ("availability under these faults", "99.9 %", f"{verdict.availability_percent:.3f} %"),
            ("a probe takes", "", f"{percentile(took, 0.5):.0f} ms (P99 {percentile(took, 0.99):.0f} ms)"),
            ("tasks accepted, succeeded", "all", f"{counts.accepted}, {counts.succeeded}"),
            ("tasks lost, duplicated, unfinished", "0", f"{counts.lost}, {counts.duplicated}, {counts.unfinished}"),
            ("answers cut, events misnumbered", "0", f"{counts.cut}, {counts.misnumbered}"),
            ("calls of the gateway answered", "all but during faults", _calls(verdict)),
            ("lists and pages", "all but during faults", f"{verdict.reads}, {verdict.excused_reads} failed in faults"),
            ("memory of web processes", "", f"{memory.at_start():.0f} MiB first, {memory.at_end():.0f} MiB last"),
            (
                "growth of each once it had settled",
                "",
                f"{slopes} MiB an hour, sampled each {EVERY_SECONDS:g} s" if slopes else "too short to tell",
            ),
        ],
    )


def _calls(verdict: SoakVerdict) -> str:
    others = ", ".join(
        f"{count} {outcome.value}" for outcome, count in verdict.calls.items() if outcome is not Outcome.ANSWERED
    )
    return f"{verdict.calls[Outcome.ANSWERED]} of {verdict.calls.total()}" + (f" ({others})" if others else "")


def notes(verdict: SoakVerdict) -> str:
    lines = [
        f"- {title}: {verdict.failed[title]} probes failed" for title in (*(fault.title for fault in FAULTS), NO_FAULT)
    ]
    if flaws := Counter(one.flaw for one in verdict.probes if one.flaw):
        lines.append(f"- they failed with: {', '.join(f'{count} × {flaw}' for flaw, count in flaws.items())}")
    late = [one.late for one in verdict.probes]
    lines.append(f"- probes were sent {1000 * percentile(late, 0.99):.0f} ms late (P99), {max(late):.1f} s at most")
    if broken := verdict.broken():
        lines.append(f"- **broken**: {', '.join(f'{count} {name}' for name, count in broken.items())}")
        lines += [f"  - {text}" for text in (*verdict.examples, *verdict.tasks.examples)]
    return "\n".join(lines)
