"""How the console writes times, sizes and states."""

import difflib
from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "–"
HIGH_PERCENT = 80


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago a moment is: "12 s", "4 min", "3 h 05 min", "2 days"."""
    if moment is None:
        return NOTHING
    return span(((now or timezone.now()) - moment).total_seconds())


def span(seconds: float | None) -> str:
    """Say a length of time in whole units, as people do."""
    if seconds is None:
        return NOTHING
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 86400} days"


def duration(seconds: float | None) -> str:
    """Say how long something took, with three digits that matter: "84 ms", "1.24 s", "2 min 05 s"."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def number(value: int) -> str:
    """Write a whole number with commas between thousands."""
    return f"{value:,}"


def size(count: int | None) -> str:
    """Say a number of bytes in decimal units, as Ollama does."""
    if not count:
        return NOTHING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


_LINE_KINDS = {"+": "added", "-": "removed", "@": "skip", " ": "same"}


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    """Compare two texts line by line: kind ("same", "added", "removed" or "skip") and text, unchanged ones around."""
    # Without the headers of files and of the first range.
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3))[3:]
    return [(_LINE_KINDS[line[0]], "⋯" if line[0] == "@" else line[1:]) for line in lines]


def badge(text: str, tone: str = "neutral", title: str = "") -> SafeString:
    """A short state in its colour. tone: good, busy, warning, bad or neutral."""
    return format_html('<span class="c-badge c-{}" title="{}">{}</span>', tone, title, text)


def is_high(used: int, limit: int) -> bool:
    """Tell whether so much of a limit is used that people should hear of it."""
    return 100 * used > HIGH_PERCENT * limit


def meter(used: int, limit: int, name: str) -> SafeString:
    """A bar of what is used of a limit. It changes its colour when that is high, and again when nothing is left."""
    return format_html(
        '<meter class="c-meter" min="0" max="{}" low="{}" high="{}" optimum="0" value="{}" aria-label="{}"></meter>',
        limit,
        limit * HIGH_PERCENT / 100,
        limit - 0.5,
        min(used, limit),
        name,
    )


def moment(value: datetime | None) -> SafeString:
    """An age that tells the exact time when pointed at."""
    if value is None:
        return format_html("{}", NOTHING)
    exact = f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), exact, age(value))
