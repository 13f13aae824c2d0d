"""Whether a run is worth anything, and whether the goals were met in it."""

from dataclasses import dataclass

from bench.load.generator import Run
from bench.load.mix import AGENTS, HEALTH_KIND, KINDS, SUBMIT
from bench.load.watch import Costs

# Above any of these the generator, or the machine, was not fit to measure.
LAG_P99_MS = 5.0
GENERATOR_CPU = 0.7
STEAL_PERCENT = 1.0

HEALTH_MEDIAN_MS = 10.0
P95_MS = {SUBMIT: 100.0}
OTHER_P95_MS = 200.0
ERROR_PERCENT = 0.1


@dataclass(frozen=True)
class Measured:
    """A run and what it cost."""

    run: Run
    costs: Costs

    @property
    def flaws(self) -> list[str]:
        """Why the run is invalid; nothing, if it is valid."""
        found = []
        if self.run.lag_p99 > LAG_P99_MS:
            found.append(f"the generator was late, P99 {self.run.lag_p99:.1f} ms")
        if self.run.cpu > GENERATOR_CPU:
            found.append(f"the generator used {100 * self.run.cpu:.0f} % of a core")
        if self.costs.steal > STEAL_PERCENT:
            found.append(f"{self.costs.steal:.1f} % of the machine's time were stolen")
        return found

    @property
    def missed(self) -> list[str]:
        """Which goals were missed; none, if all were met."""
        found = []
        health = self.median_of(HEALTH_KIND.name)
        if health >= HEALTH_MEDIAN_MS:
            found.append(f"{HEALTH_KIND.name}: median {health:.0f} ms")
        for kind in KINDS:
            p95 = self.p95_of(kind.name)
            if p95 >= P95_MS.get(kind.name, OTHER_P95_MS):
                found.append(f"{kind.name}: P95 {p95:.0f} ms")
        if self.run.error_percent >= ERROR_PERCENT:
            found.append(f"errors: {self.run.error_percent:.2f} %")
        return found

    @property
    def is_valid(self) -> bool:
        return not self.flaws

    @property
    def verdict(self) -> str:
        met = "missed" if self.missed else "held"
        return f"{met}, but invalid: {'; '.join(self.flaws)}" if self.flaws else met

    def median_of(self, kind: str) -> float:
        """Milliseconds; 0 where nobody asked."""
        return self.run.kinds[kind].median if kind in self.run.kinds else 0.0

    def p95_of(self, kind: str) -> float:
        """Milliseconds; 0 where nobody asked."""
        return self.run.kinds[kind].p95 if kind in self.run.kinds else 0.0

    @property
    def slowest_other(self) -> tuple[str, float]:
        """Of the kinds that have no figure of their own, the one with the highest P95."""
        name = max((kind.name for kind in KINDS if kind.name not in {AGENTS, SUBMIT}), key=self.p95_of)
        return name, self.p95_of(name)
