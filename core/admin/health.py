"""How the parts are that everything depends on, how they were, and what to do where one does not work."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from core.formats import badge, span
from core.ops import doctor, health, health_history
from core.ops.doctor import Remedy
from core.ops.health import Change
from core.ops.health_history import Period
from core.ops.probes import State

PERMISSION = "core.view_maintenancerun"
DAY, WEEK = timedelta(days=1), timedelta(days=7)
OUTAGES_SHOWN = 50

TONES = {State.UP: "good", State.DEGRADED: "warning", State.DOWN: "bad", State.UNKNOWN: "neutral"}
ABOUT = {
    "database": "holds everything that was accepted",
    "broker": "wakes workers",
    "redis": "wakes who waits, and shares the cache",
    "disk": "has room for the data",
    "workers": "run tasks and jobs",
    "cache": "keeps answers",
    "models": "the model servers",
}


@dataclass(frozen=True)
class _Part:
    """A part, as the page draws it. strips: label, drawing and share of a day and a week. page: its address."""

    name: str
    about: str
    badge: SafeString
    since: datetime
    why: str
    strips: list[tuple[str, SafeString, str]]
    remedy: Remedy | None
    page: str


@dataclass(frozen=True)
class _Outage:
    """A time in which a part did not work as it should."""

    part: str
    badge: SafeString
    start: datetime
    lasted: str
    detail: str


@permission_required(PERMISSION, raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    history = health_history.periods(now - WEEK)
    found = {change.part: change for change in health.current()}
    outages = health_history.outages(history)
    context = {
        **admin.site.each_context(request),
        "title": "Health",
        "is_stale": health.readiness()["detail"],
        "parts": [_part(name, periods, found.get(name), now) for name, periods in history.items()],
        "outages": [_outage(period, now) for period in outages[:OUTAGES_SHOWN]],
        "more": max(0, len(outages) - OUTAGES_SHOWN),
    }
    return TemplateResponse(request, "console/health.html", context)


def _part(name: str, periods: list[Period], found: Change | None, now: datetime) -> _Part:
    """found: what this process found last; the history is up to 15 seconds older, and goes back further."""
    last = periods[-1] if periods else None
    state = found.state if found else State.UNKNOWN
    since = last.start if last and last.state == state else (found.at if found else now)
    is_well = state in {State.UP, State.UNKNOWN}
    remedy = None if is_well else doctor.remedy_of(name)
    return _Part(
        name.capitalize(),
        ABOUT.get(name, ""),
        badge(state.capitalize(), TONES[state]),
        since,
        found.detail if found else "",
        [_strip("24 h", periods, now - DAY, now), _strip("7 days", periods, now - WEEK, now)],
        remedy,
        reverse(remedy.page) if remedy and remedy.page else "",
    )


def _strip(label: str, periods: Iterable[Period], start: datetime, now: datetime) -> tuple[str, SafeString, str]:
    """Draw a time: its label, the strip, and for how much of what is known the part was up."""
    within = [period.since(start) for period in periods if (period.end or now) > start]
    unknown = ((within[0].start if within else now) - start).total_seconds()
    seconds = dict.fromkeys(State, 0.0)
    for period in within:
        seconds[period.state] += period.seconds(now)
    known = seconds[State.UP] + seconds[State.DEGRADED] + seconds[State.DOWN]
    share = f"{_percent(seconds[State.UP], known)} up" if known else "not known"
    whole = (now - start).total_seconds()
    pieces = [("neutral", unknown, "Not known yet")] if unknown > 0 else []
    pieces += [(TONES[period.state], period.seconds(now), _title(period, now)) for period in within]
    drawn = format_html_join(
        "", '<span class="c-{}" style="width: {}%" title="{}"></span>',
        ((tone, f"{100 * took / whole:.3f}", title) for tone, took, title in pieces),
    )  # fmt: skip
    return (
        label,
        format_html('<span class="c-strip" role="img" aria-label="{}: {}">{}</span>', label, share, drawn),
        share,
    )


def _percent(part: float, whole: float) -> str:
    """Never 100 % where something is missing."""
    percent = 100 * part / whole
    if part >= whole or not part:
        return f"{percent:.0f} %"
    return f"{min(percent, 99.99):.2f} %"


def _title(period: Period, now: datetime) -> str:
    return f"{period.state.capitalize()} for {span(period.seconds(now))} from {period.start:%Y-%m-%d %H:%M} UTC on"


def _outage(period: Period, now: datetime) -> _Outage:
    lasted = span(period.seconds(now)) if period.end else f"{span(period.seconds(now))} so far"
    state = badge(period.state.capitalize(), TONES[period.state])
    return _Outage(period.part.capitalize(), state, period.start, lasted, period.detail)
