"""The console's first page: what is wrong, then figures and charts, from panels that the apps register.

The page and the refresh every five seconds show the same snapshot. A panel's answer is kept for a moment, so that ten
open dashboards cost the database as much as one.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from core.models import User

REFRESH_SECONDS = 5
KEEP_SECONDS = 4  # less than between two refreshes
# A panel that took long to build, because much happened, is kept so many times longer: it costs 4 % of a core at most.
KEEP_FACTOR = 25


@dataclass(frozen=True)
class Problem:
    """Something that needs an operator, and the link that helps. level: "bad" or "warning"."""

    level: str
    title: str
    detail: str = ""
    since: datetime | None = None
    url: str = ""
    action: str = ""


@dataclass(frozen=True)
class Figure:
    """One number. tone: "", "warning" or "bad"."""

    label: str
    value: str
    hint: str = ""
    url: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Series:
    """Values of a chart, one per label. tone: the colour's name in dashboard.js."""

    label: str
    values: list[float | None]
    tone: str


@dataclass(frozen=True)
class Chart:
    """key: stays the same between refreshes. kind: "bars", "stacked", "rows" (lying bars) or "lines"."""

    key: str
    title: str
    kind: str
    labels: list[str]
    series: list[Series]
    unit: str = ""
    hint: str = ""
    empty: str = "Nothing yet."


@dataclass(frozen=True)
class Cell:
    """text; or a moment, shown as its age. tone: makes it a badge."""

    text: str = ""
    url: str = ""
    tone: str = ""
    moment: datetime | None = None


@dataclass(frozen=True)
class Table:
    key: str
    title: str
    headers: list[str]
    rows: list[list[Cell]]
    empty: str = "Nothing to show."
    url: str = ""


@dataclass(frozen=True)
class Panel:
    """A part of the dashboard."""

    problems: list[Problem] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    name: str
    build: Callable[[], Panel]
    permission: str
    position: int


_sources: dict[str, _Source] = {}


def register(name: str, build: Callable[[], Panel], *, permission: str, position: int) -> None:
    """Add a panel for those who hold a permission, such as "core.view_user"; small positions come first."""
    _sources[name] = _Source(name, build, permission, position)


def snapshot(user: User | AnonymousUser) -> dict[str, Any]:
    """Gather what this person may see, as plain data; what is bad comes before what is merely unusual."""
    in_order = sorted(_sources.values(), key=lambda source: source.position)
    panels = [_panel(source) for source in in_order if user.has_perm(source.permission)]
    parts: dict[str, list[Any]] = {
        name: [item for panel in panels for item in panel[name]]
        for name in ("problems", "figures", "charts", "tables")
    }
    parts["problems"].sort(key=lambda problem: problem["level"] != "bad")
    oldest = min((panel["at"] for panel in panels), default=timezone.now().isoformat())
    return {"at": oldest, "may_see": bool(panels), **parts}


def _panel(source: _Source) -> dict[str, Any]:
    key = f"console-panel-{source.name}"
    kept: dict[str, Any] | None = cache.get(key)
    if kept is None:
        at, started = timezone.now().isoformat(), time.perf_counter()
        kept = {"at": at, **_plain(asdict(source.build()))}
        cache.set(key, kept, max(KEEP_SECONDS, KEEP_FACTOR * (time.perf_counter() - started)))
    return kept


def _plain(value: Any) -> Any:
    """Write moments as text, at any depth, so that the snapshot is the same JSON in page, answer and cache."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def add_to_index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Give the index page its first snapshot. Named in UNFOLD["DASHBOARD_CALLBACK"]."""
    return {**context, "title": "Dashboard", "snapshot": snapshot(request.user), "refresh_seconds": REFRESH_SECONDS}


def refresh(request: HttpRequest) -> JsonResponse:
    """Answer with a new snapshot for a dashboard that is open."""
    return JsonResponse(snapshot(request.user))
