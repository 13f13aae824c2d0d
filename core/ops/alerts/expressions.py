"""Conditions over metrics: the few words of PromQL that alerts need, each written for Prometheus and worked out here.

A value is a vector: a number for each set of labels. Source: https://prometheus.io/docs/prometheus/latest/querying/
"""

import math
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

WINDOW_SECONDS = 300.0
# Counts of less than that say nothing yet.
MIN_WINDOW_SECONDS = 60.0
# The label by which Prometheus tells hosts apart. What this program reads itself has none: it is one host's.
INSTANCE = "instance"

Labels = tuple[tuple[str, str], ...]  # in the order of their names
Vector = dict[Labels, float]
Series = Iterable[tuple[str, Mapping[str, str], float]]


class TooEarly(Exception):
    """Nobody has counted for long enough to tell. Ask again later."""


class Breach(NamedTuple):
    """What is beyond a limit, and the limit."""

    value: float
    limit: float


class Samples:
    """What the metrics said at one moment. at: seconds of a steady clock."""

    def __init__(self, at: float, series: Series) -> None:
        self.at = at
        self._by_name: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for name, labels, value in series:
            self._by_name.setdefault(name, []).append((labels, value))

    def of(self, metric: "Metric") -> Iterator[tuple[Mapping[str, str], float]]:
        found = self._by_name.get(metric.name, ())
        return ((labels, value) for labels, value in found if metric.matches(labels))


@dataclass(frozen=True)
class Metric:
    """A metric, or those of its series whose labels match regular expressions (like), or do not (unlike)."""

    name: str
    like: Labels = ()
    unlike: Labels = ()

    def promql(self) -> str:
        matchers = [f'{label}=~"{pattern}"' for label, pattern in self.like]
        matchers += [f'{label}!~"{pattern}"' for label, pattern in self.unlike]
        return f"{self.name}{{{','.join(matchers)}}}" if matchers else self.name

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in self.like) and not any(
            re.fullmatch(pattern, labels.get(label, "")) for label, pattern in self.unlike
        )


class Expression(ABC):
    """What yields a vector."""

    @abstractmethod
    def promql(self) -> str: ...

    @abstractmethod
    def value(self, samples: Samples, past: "Past") -> Vector:
        """Work it out. Raises TooEarly."""

    @abstractmethod
    def metrics(self) -> Iterator[Metric]:
        """The metrics that it is made from."""

    def increases(self) -> Iterator["Increase"]:
        """The parts of it that need to know what was."""
        return iter(())

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels of what it yields."""
        return ()


@dataclass(frozen=True)
class Latest(Expression):
    """The greatest of the latest values that have these labels in common."""

    metric: Metric
    by: tuple[str, ...] = ()

    def promql(self) -> str:
        return f"max{_by(self.by)}({self.metric.promql()})"

    def value(self, samples: Samples, past: "Past") -> Vector:
        return {labels: max(values) for labels, values in _grouped(self.metric, self.by, samples).items()}

    def metrics(self) -> Iterator[Metric]:
        yield self.metric

    @property
    def labels(self) -> tuple[str, ...]:
        return self.by


@dataclass(frozen=True)
class Increase(Expression):
    """How much counters that have these labels in common grew within five minutes, all together."""

    metric: Metric
    by: tuple[str, ...] = ()

    def promql(self) -> str:
        return f"sum{_by(self.by)}(increase({self.metric.promql()}[{WINDOW_SECONDS / 60:g}m]))"

    def value(self, samples: Samples, past: "Past") -> Vector:
        return past.increase(self)

    def total(self, samples: Samples) -> Vector:
        return {labels: sum(values) for labels, values in _grouped(self.metric, self.by, samples).items()}

    def metrics(self) -> Iterator[Metric]:
        yield self.metric

    def increases(self) -> Iterator["Increase"]:
        yield self

    @property
    def labels(self) -> tuple[str, ...]:
        return self.by


@dataclass(frozen=True)
class Quantile(Expression):
    """The value of a histogram that this share of the observations did not exceed. buckets: by "le"."""

    share: float
    buckets: Increase

    def promql(self) -> str:
        return f"histogram_quantile({self.share:g}, {self.buckets.promql()})"

    def value(self, samples: Samples, past: "Past") -> Vector:
        bounds = sorted((float(dict(labels)["le"]), count) for labels, count in past.increase(self.buckets).items())
        found = _quantile(self.share, bounds)
        return {} if found is None else {(): found}

    def metrics(self) -> Iterator[Metric]:
        return self.buckets.metrics()

    def increases(self) -> Iterator[Increase]:
        yield self.buckets


@dataclass(frozen=True)
class Ratio(Expression):
    """One vector divided by another, label by label."""

    part: Expression
    whole: Expression

    def promql(self) -> str:
        return f"{self.part.promql()} / {self.whole.promql()}"

    def value(self, samples: Samples, past: "Past") -> Vector:
        parts, wholes = self.part.value(samples, past), self.whole.value(samples, past)
        return {labels: part / wholes[labels] for labels, part in parts.items() if wholes.get(labels)}

    def metrics(self) -> Iterator[Metric]:
        yield from self.part.metrics()
        yield from self.whole.metrics()

    def increases(self) -> Iterator[Increase]:
        yield from self.part.increases()
        yield from self.whole.increases()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.part.labels


class Condition(ABC):
    """What is wrong while it yields anything."""

    @abstractmethod
    def promql(self) -> str: ...

    @abstractmethod
    def breaches(self, samples: Samples, past: "Past") -> dict[Labels, Breach]:
        """What is wrong, by labels. Raises TooEarly."""

    @abstractmethod
    def expressions(self) -> Iterator[Expression]:
        """What it is made from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels of what it yields."""
        return ()

    @property
    def limit_shown(self) -> tuple[str, float] | None:
        """The limit and on which side of it is wrong; None where operators set it."""
        return None


@dataclass(frozen=True)
class Compared(Condition):
    """Values above a limit, below it, or equal to it; the limit may be a metric that an operator sets."""

    expression: Expression
    sign: str
    limit: float | Metric

    def promql(self) -> str:
        limit = self.limit if isinstance(self.limit, Metric) else None
        right = f"scalar(max({limit.promql()}))" if limit else f"{self.limit:g}"
        return f"{self.expression.promql()} {self.sign} {right}"

    def breaches(self, samples: Samples, past: "Past") -> dict[Labels, Breach]:
        limit = self._limit(samples)
        values = self.expression.value(samples, past)
        return {labels: Breach(value, limit) for labels, value in values.items() if self._is_beyond(value, limit)}

    def _limit(self, samples: Samples) -> float:
        if isinstance(self.limit, Metric):
            return max((value for _, value in samples.of(self.limit)), default=math.nan)
        return self.limit

    def _is_beyond(self, value: float, limit: float) -> bool:
        return {">": value > limit, "<": value < limit, "==": value == limit}[self.sign]

    def expressions(self) -> Iterator[Expression]:
        yield self.expression
        if isinstance(self.limit, Metric):
            yield Latest(self.limit)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.expression.labels

    @property
    def limit_shown(self) -> tuple[str, float] | None:
        return None if isinstance(self.limit, Metric) else (self.sign, self.limit)


@dataclass(frozen=True)
class Missing(Condition):
    """Nobody tells of a metric at all."""

    metric: Metric

    def promql(self) -> str:
        return f"absent({self.metric.promql()})"

    def breaches(self, samples: Samples, past: "Past") -> dict[Labels, Breach]:
        return {} if any(samples.of(self.metric)) else {(): Breach(0, 1)}

    def expressions(self) -> Iterator[Expression]:
        yield Latest(self.metric)


@dataclass(frozen=True)
class Both(Condition):
    """What the first says, while the second says something of the same labels."""

    first: Condition
    second: Condition

    def promql(self) -> str:
        return f"{self.first.promql()} and {self.second.promql()}"

    def breaches(self, samples: Samples, past: "Past") -> dict[Labels, Breach]:
        others = self.second.breaches(samples, past)
        return {labels: found for labels, found in self.first.breaches(samples, past).items() if labels in others}

    def expressions(self) -> Iterator[Expression]:
        yield from self.first.expressions()
        yield from self.second.expressions()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.first.labels

    @property
    def limit_shown(self) -> tuple[str, float] | None:
        return self.first.limit_shown


@dataclass(frozen=True)
class Either(Condition):
    """What any of them says; of the same labels, what the first says that does."""

    conditions: tuple[Condition, ...]

    def promql(self) -> str:
        return " or ".join(condition.promql() for condition in self.conditions)

    def breaches(self, samples: Samples, past: "Past") -> dict[Labels, Breach]:
        found: dict[Labels, Breach] = {}
        for condition in self.conditions:
            found = condition.breaches(samples, past) | found
        return found

    def expressions(self) -> Iterator[Expression]:
        for condition in self.conditions:
            yield from condition.expressions()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.conditions[0].labels

    @property
    def limit_shown(self) -> tuple[str, float] | None:
        return self.conditions[0].limit_shown


@dataclass
class Past:
    """What was counted within the window, summed up already, so that it takes no room."""

    _totals: dict[Increase, deque[tuple[float, Vector]]] = field(default_factory=dict)

    def note(self, wanted: Iterable[Increase], samples: Samples) -> None:
        for increase in wanted:
            totals = self._totals.setdefault(increase, deque())
            totals.append((samples.at, increase.total(samples)))
            while samples.at - totals[0][0] > WINDOW_SECONDS:
                totals.popleft()

    def increase(self, wanted: Increase) -> Vector:
        """Raises TooEarly."""
        totals = self._totals.get(wanted)
        if not totals or totals[-1][0] - totals[0][0] < MIN_WINDOW_SECONDS:
            raise TooEarly
        before, now = totals[0][1], totals[-1][1]
        return {key: _grown(before.get(key, 0), value) for key, value in now.items()}


def _grown(before: float, now: float) -> float:
    """What counts less than before was started anew."""
    return now - before if now >= before else now


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _grouped(metric: Metric, by: tuple[str, ...], samples: Samples) -> dict[Labels, list[float]]:
    groups: dict[Labels, list[float]] = {}
    for labels, value in samples.of(metric):
        key = tuple((name, labels[name]) for name in sorted(by) if name in labels)
        groups.setdefault(key, []).append(value)
    return groups


def _quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """Interpolate within the bucket, as histogram_quantile does. buckets: upper bound and cumulative count."""
    if not buckets or not buckets[-1][1] or not math.isinf(buckets[-1][0]):
        return None
    rank = share * buckets[-1][1]
    at = next(index for index, (_, count) in enumerate(buckets) if count >= rank)
    if at == len(buckets) - 1:  # beyond the last bound
        return buckets[-2][0] if at else None
    lower, below = buckets[at - 1] if at else (0.0, 0.0)
    upper, count = buckets[at]
    return lower + (upper - lower) * (rank - below) / (count - below) if count > below else upper
