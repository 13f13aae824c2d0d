"""What became of a soak."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.chaos.gateway.calls import Call, Outcome
from bench.chaos.verdict import Verdict
from bench.soak.faults import Window
from bench.soak.load import Read
from bench.soak.probe import Probe

# Of a thousand probes, one may fail.
ALLOWED_SHARE = 0.001
# So many of those that were due must have been made and told of, or the others prove nothing.
MADE_SHARE = 0.99
# While a process dies or is replaced, a client may meet these.
EXCUSED = frozenset({Outcome.CUT_OFF, Outcome.BROKEN_OFF, Outcome.REFUSED})
EXAMPLES = 10
NO_FAULT = "no fault"


@dataclass
class SoakVerdict:
    """What was counted.

    due: how many probes there should be. failed: probes, by the fault that was there. calls: by how they ended.
    excused: by a fault.
    """

    tasks: Verdict
    probes: list[Probe]
    due: int
    failed: Counter[str] = field(default_factory=Counter)
    calls: Counter[Outcome] = field(default_factory=Counter)
    reads: int = 0
    excused_reads: int = 0
    unexcused: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def availability_percent(self) -> float:
        return 100 * (1 - self.failed.total() / len(self.probes))

    def broken(self) -> dict[str, int]:
        """The requirements that do not hold, and how often."""
        found = {**self.tasks.broken(float("inf")), **self.unexcused}
        if len(self.probes) < MADE_SHARE * self.due:
            found["probes missing"] = self.due - len(self.probes)
        if self.failed.total() > ALLOWED_SHARE * len(self.probes):
            found["probes failed"] = self.failed.total()
        return {name: count for name, count in found.items() if count}

    def blame(self, what: str, example: str) -> None:
        self.unexcused[what] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{what}: {example}")


def judge(
    tasks: Verdict,
    *,
    probes: list[Probe],
    due: int,
    calls: Iterable[Call],
    reads: Iterable[Read],
    windows: Sequence[Window],
) -> SoakVerdict:
    """Compare what clients met with what the faults excuse. Probes count, whatever excuse there is."""
    verdict = SoakVerdict(tasks, probes, due)
    for probe in probes:
        if probe.flaw:
            verdict.failed[_fault_at(windows, probe.at, probe.at + probe.seconds)] += 1
    for call in calls:
        verdict.calls[call.outcome] += 1
        is_excused = call.outcome in EXCUSED and _fault_at(windows, call.sent_at, call.ended_at) != NO_FAULT
        if call.outcome is not Outcome.ANSWERED and not is_excused:
            verdict.blame("calls not answered", str(call))
    for read in reads:
        verdict.reads += 1
        if not read.flaw:
            continue
        if _fault_at(windows, read.at, read.at + read.seconds) == NO_FAULT:
            verdict.blame("reads failed", f"{read.path}: {read.flaw} after {read.seconds:.1f} s")
        else:
            verdict.excused_reads += 1
    return verdict


def _fault_at(windows: Sequence[Window], begun: float, ended: float) -> str:
    return next((window.title for window in windows if window.touches(begun, ended)), NO_FAULT)
