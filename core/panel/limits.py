"""Limits as people see them: of each kind the one that binds, how far it is used, and what happens when it is."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from core.access.limits import usage
from core.access.limits.allowances import level_of, levels
from core.access.limits.subjects import Subject, subjects_of
from core.access.limits.usage import Gauge, Usage
from core.formats import is_high, meter, span
from core.models import ApiKey, User

_WHOSE = {"user": "yours", "team": "your team's"}


@dataclass(frozen=True)
class Limit:
    """A limit of one kind, such as "tokens_per_day"; one that is None tells that there is none."""

    kind: str
    subject: Subject
    gauge: Gauge

    @property
    def label(self) -> str:
        return self.kind.replace("_", " ").capitalize()

    @property
    def whose(self) -> str:
        """Whose it is, where that may be a question."""
        return "" if self.gauge.limit is None else _WHOSE.get(self.subject.kind, "")

    @property
    def amount(self) -> str:
        limit, used = self.gauge.limit, self.gauge.used
        if limit is None:
            return "No limit"
        return f"Limit {limit:,}" if used is None else f"{used:,} of {limit:,}"

    @property
    def bar(self) -> SafeString | None:
        limit, used = self.gauge.limit, self.gauge.used
        return None if limit is None or used is None else meter(used, limit, self.label)

    @property
    def tone(self) -> str:
        limit, used = self.gauge.limit, self.gauge.used
        if limit is None or used is None or not is_high(used, limit):
            return ""
        return "warning" if self.gauge.remaining else "bad"

    @property
    def outlook(self) -> str:
        """When there is room again, and what happens until then."""
        gauge, wait = self.gauge, self.gauge.resets_in_seconds
        if gauge.limit is None:
            return "" if gauge.used is None else f"Used: {gauge.used:,}."
        if gauge.used is None:
            return "Not counted at the moment, so nothing is refused."
        until = "one ends" if wait is None else f"it starts anew in {_unbroken(wait)}"
        if self.tone == "bad":
            return f"Used up. More is refused until {until}."
        if self.tone == "warning":
            return f"{gauge.remaining:,} left. More than that is refused until {until}."
        if not gauge.used:
            return "Nothing used."
        return "Each that ends makes room." if wait is None else f"Starts anew in {_unbroken(wait)}."


def of_person(person: User) -> list[Limit]:
    """Tell of each kind which limit binds somebody: their own, or their team's."""
    found = usage.of(levels(subjects_of(person, None)))
    return [_binding(kind, found) for kind in found[0].gauges]


def of_keys(keys: Sequence[ApiKey]) -> dict[uuid.UUID, list[Limit]]:
    """Tell which limits keys have of their own, by the id of the key."""
    found = usage.of([level_of(Subject("key", key.pk)) for key in keys])
    return {
        item.subject.id: [
            Limit(kind, item.subject, gauge) for kind, gauge in item.gauges.items() if gauge.limit is not None
        ]
        for item in found
    }


def _binding(kind: str, found: Sequence[Usage]) -> Limit:
    item = min(found, key=lambda item: _room(item.gauges[kind]))
    return Limit(kind, item.subject, item.gauges[kind])


def _room(gauge: Gauge) -> float:
    if gauge.limit is None:
        return math.inf
    return gauge.limit if gauge.remaining is None else gauge.remaining


def _unbroken(seconds: int) -> str:
    return span(seconds).replace(" ", "\N{NO-BREAK SPACE}")
