"""What an alert is: the one definition from which Prometheus's rules and our own watch follow."""

import enum
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from core.formats import NOTHING, duration, span
from core.models import Alert
from core.ops.alerts.expressions import INSTANCE, Condition, Metric

# What is right again for a moment only still fires, so that people are told once.
KEEP_FIRING = timedelta(minutes=1)


class Unit(enum.Enum):
    """What a rule's figures are."""

    SECONDS = "seconds"
    AGE = "age"  # seconds, of hours and days
    SHARE = "share"  # from 0 to 1
    COUNT = "count"
    TRUTH = "truth"  # there is nothing to measure

    def text(self, value: float | None) -> str:
        if value is None or self == Unit.TRUTH:
            return NOTHING
        if self == Unit.SECONDS:
            return duration(value)
        if self == Unit.AGE:
            return span(value)
        return f"{100 * value:.3g} %" if self == Unit.SHARE else f"{value:,.0f}"


@dataclass(frozen=True)
class Rule:
    """An alert that there may be, once for each set of labels that its condition yields.

    name: stands in rows, silences and the configuration of others, never changes.
    title: what is wrong; a label's name in braces stands for its value. watches: the condition in words.
    why: what follows from it. help: what to do, as steps. page: the name of the console's page that helps.
    """

    name: str
    title: str
    watches: str
    condition: Condition
    holds_for: timedelta
    severity: "Alert.Severity"
    unit: Unit
    why: str
    help: str
    page: str

    def title_for(self, labels: Mapping[str, str]) -> str:
        return self.title.format_map(defaultdict(str, labels))

    @property
    def labels(self) -> list[str]:
        """The names of its alerts' labels in this program, which reads one host."""
        return sorted(set(self.condition.labels) - {INSTANCE})

    @property
    def limit(self) -> str:
        """From where on it is wrong, such as "> 5 s"."""
        if self.unit == Unit.TRUTH:
            return NOTHING
        limit = self.condition.limit_shown
        return f"{limit[0]} {self.unit.text(limit[1])}" if limit else "a setting"

    def metrics(self) -> Collection[Metric]:
        """All metrics that it looks at."""
        return {metric for expression in self.condition.expressions() for metric in expression.metrics()}


_rules: dict[str, Rule] = {}


def register(rule: Rule) -> Rule:
    _rules[rule.name] = rule
    return rule


def find(name: str) -> Rule | None:
    return _rules.get(name)


def registered() -> list[Rule]:
    """All rules, by name."""
    return [_rules[name] for name in sorted(_rules)]
