"""How the parts were over time: a row for each change, written by the one process that watches the alerts.

All web processes probe, and may find a part differently for some seconds; only the watcher's word is written down.
Changes that it found while the database was away are written when that is back, with the moments of finding them.
While no process watches, nobody knows: that is a state too.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet, Subquery

from core.models import HealthChange
from core.ops import health, probes
from core.ops.health import Change
from core.ops.probes import State

# A restart takes less; longer than that nobody looked.
GAP = timedelta(minutes=2)
NOBODY_LOOKED = "Nobody looked: no web process ran."
MOST = 2000  # changes that a page looks at


class Writer:
    """Writes down what this process finds, as long as it is the one that does."""

    def __init__(self) -> None:
        self._last: dict[str, HealthChange] | None = None

    def forget(self) -> None:
        """Another process writes now."""
        self._last = None

    def write(self, watched_until: datetime | None) -> None:
        """Write down what changed. watched_until: when any process wrote before this one began, if one did."""
        noted = health.changes()
        if self._last is not None and not noted:
            return
        last = _latest(HealthChange.objects.all()) if self._last is None else dict(self._last)
        new = list(_gap(last.values(), watched_until)) if self._last is None else []
        last.update({row.part: row for row in new})
        for change in (*noted, *health.current()):
            known = last.get(change.part)
            if known is None or (change.state != known.state and change.at > known.at):
                last[change.part] = _row(change)
                new.append(last[change.part])
        HealthChange.objects.bulk_create(new)
        health.forget_changes(noted)
        self._last = last


def _gap(rows: Iterable[HealthChange], watched_until: datetime | None) -> Iterable[HealthChange]:
    """What is to be written where nobody looked before this process did."""
    begun = health.looks_since()
    if watched_until is None or begun is None or begun - watched_until < GAP:
        return
    for row in rows:
        if row.state != State.UNKNOWN and row.at < watched_until:
            yield _row(Change(row.part, State.UNKNOWN, NOBODY_LOOKED, watched_until))


def _row(change: Change) -> HealthChange:
    return HealthChange(part=change.part, state=change.state, detail=change.detail[:300], at=change.at)


def _latest(rows: QuerySet[HealthChange]) -> dict[str, HealthChange]:
    """The latest of these rows of each part that is looked at."""
    keys = rows.order_by("-at", "-pk").values("pk")
    newest: list[Any] = [Subquery(keys.filter(part=name)[:1]) for name in probes.registered()]
    return {row.part: row for row in HealthChange.objects.filter(pk__in=newest)}


# Reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Period:
    """A part was in a state for a time. end: None while it still is."""

    part: str
    state: State
    detail: str
    start: datetime
    end: datetime | None

    def seconds(self, now: datetime) -> float:
        return ((self.end or now) - self.start).total_seconds()

    def since(self, moment: datetime) -> "Period":
        """What of it is not before a moment."""
        return replace(self, start=max(self.start, moment))


def periods(since: datetime) -> dict[str, list[Period]]:
    """How each part was since a moment, the oldest first; what began before then begins when it did."""
    rows: dict[str, list[HealthChange]] = {name: [] for name in probes.registered()}
    for part, row in _latest(HealthChange.objects.filter(at__lt=since)).items():
        rows[part].append(row)
    newest = HealthChange.objects.filter(at__gte=since, part__in=rows).order_by("-at", "-pk")[:MOST]
    for row in reversed(newest):
        rows[row.part].append(row)
    return {part: list(_periods(changes)) for part, changes in rows.items()}


def _periods(changes: Collection[HealthChange]) -> Iterable[Period]:
    before: list[HealthChange | None] = [None, *changes]
    rows = [
        row for row, earlier in zip(changes, before, strict=False) if earlier is None or earlier.state != row.state
    ]
    ends = [*(row.at for row in rows[1:]), None]
    for row, end in zip(rows, ends, strict=False):
        yield Period(row.part, State(row.state), row.detail, row.at, end)


def outages(history: Mapping[str, Iterable[Period]]) -> list[Period]:
    """The times in which a part did not work as it should, the latest first."""
    wrong = {State.DEGRADED, State.DOWN}
    found = [period for periods in history.values() for period in periods if period.state in wrong]
    return sorted(found, key=lambda period: period.start, reverse=True)
