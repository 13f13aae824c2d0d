"""The response cache: how well it does, what is asked for most, and ways to have it forget."""

import json
from contextlib import suppress

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import audit
from core.cache import figures, steering
from core.cache.entries import EVERYTHING, MAX_TAG_CHARACTERS
from core.cache.figures import LevelFigures
from core.exceptions import InvalidInput
from core.ops import doctor

ENTRIES_SHOWN = 50
CHARACTERS_SHOWN = 100_000
MAY_SEE, MAY_FORGET = "core.view_cacheentry", "core.delete_cacheentry"
LATER = "The store is away: it will hold as soon as that is back."


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    _demand(request, MAY_SEE)
    found = figures.figures()
    entries = figures.most_used(ENTRIES_SHOWN)
    context = {
        **admin.site.each_context(request),
        "title": "Cache",
        "figures": found,
        "remedy": doctor.remedy_of("cache"),
        "hit_percent": _percent(found.hit_ratio),
        "levels": [
            ("Memory of the processes", found.memory, _percent(_ratio(found.memory))),
            (found.store, found.shared, _percent(_ratio(found.shared))),
        ],
        "entries": [(entry, [tag for tag in entry.tags if tag != EVERYTHING]) for entry in entries],
        "tags": sorted({tag for entry in entries for tag in entry.tags} - {EVERYTHING}),
        "max_tag_characters": MAX_TAG_CHARACTERS,
        "may_forget": request.user.has_perm(MAY_FORGET),
    }
    return TemplateResponse(request, "console/cache.html", context)


@require_POST
def invalidate(request: HttpRequest) -> HttpResponse:
    _demand(request, MAY_FORGET)
    tag = request.POST.get("tag", "").strip()
    try:
        holds = steering.invalidate(tag)
    except InvalidInput as refusal:
        messages.error(request, f"Nothing was invalidated: {' '.join(refusal.errors['tag'])}")
    else:
        messages.success(request, f"Invalidated what has the tag {tag}." + ("" if holds else f" {LATER}"))
    return HttpResponseRedirect(reverse("console-cache"))


@require_POST
def clear(request: HttpRequest) -> HttpResponse:
    _demand(request, MAY_FORGET)
    holds = steering.clear()
    messages.success(request, "Cleared the cache. What it held is deleted soon." if holds else LATER)
    return HttpResponseRedirect(reverse("console-cache"))


@never_cache
@require_http_methods(["GET", "POST"])
def entry(request: HttpRequest) -> HttpResponse:
    """Show what is known of an entry; its content only on demand, which the audit log tells."""
    _demand(request, MAY_SEE)
    key = request.GET.get("key", "")
    found = figures.entry(key)
    if found is None:
        messages.warning(request, "This entry is gone: it ended, was dropped or invalidated, or the store is away.")
        return HttpResponseRedirect(reverse("console-cache"))
    row, value = found
    if request.method == "POST":
        audit.record("cache-entry.opened", target=audit.Subject("cache-entry", key, key))
    context = {
        **admin.site.each_context(request),
        "title": "Cache entry",
        "entry": row,
        "tags": [tag for tag in row.tags if tag != EVERYTHING],
        "content": _readable(value) if request.method == "POST" else None,
    }
    return TemplateResponse(request, "console/cache_entry.html", context)


def _demand(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio * 100:.1f} %"


def _ratio(level: LevelFigures) -> float | None:
    asked = level.hits + level.misses
    return level.hits / asked if asked else None


def _readable(value: bytes) -> str:
    """Lay JSON out; anything else is shown as the text that it may be."""
    text = value.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[:CHARACTERS_SHOWN]}…"
