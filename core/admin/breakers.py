"""Circuit breakers: what is wrong, why, since when, and what can be done."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from core.admin import dashboard
from core.admin.base import ButtonsMixin, ReadOnlyMixin, button
from core.admin.dashboard import Panel, Problem
from core.formats import NOTHING, badge, moment
from core.models import CircuitBreaker, CircuitBreakerChange, User
from core.net import breakers

TONES = {
    CircuitBreaker.State.CLOSED: "good",
    CircuitBreaker.State.HALF_OPEN: "warning",
    CircuitBreaker.State.OPEN: "bad",
}
CHANGE_TONES = {
    CircuitBreakerChange.What.OPENED: "bad",
    CircuitBreakerChange.What.CLOSED: "good",
    CircuitBreakerChange.What.RESET: "good",
}

# By kind: the page of what a breaker stands before. Applications that have such pages add them.
pages: dict[str, Callable[[CircuitBreaker], str]] = {}


def state_badge(breaker: CircuitBreaker) -> SafeString:
    return badge(breaker.state_label, "warning" if breaker.is_held else TONES[CircuitBreaker.State(breaker.state)])


def problem(breaker: CircuitBreaker, what: str) -> Problem | None:
    """What the dashboard says of a breaker; None if it is closed. what: it stands before, such as "The node gpu1"."""
    held = {
        CircuitBreaker.Forced.OPEN: ("warning", f"{what} is held out of use"),
        CircuitBreaker.Forced.CLOSED: ("warning", f"{what} is held in use, whatever it answers"),
    }
    if breaker.is_held:
        level, title = held[CircuitBreaker.Forced(breaker.forced)]
    elif breaker.is_shut:
        level, title = "bad", f"{what} is down"
    else:
        return None
    by = f"By {breaker.forced_by}: " if breaker.is_held else ""
    return Problem(
        level,
        title,
        f"{by}{breaker.why}",
        since=breaker.troubled_since,
        url=reverse("admin:core_circuitbreaker_change", args=[breaker.pk]),
        action="Open its breaker",
    )


def panel() -> Panel:
    """Dependencies that are not as they should be. Of nodes, those who know them tell."""
    rows = CircuitBreaker.objects.filter(kind=CircuitBreaker.Kind.DEPENDENCY)
    found = [problem(breaker, f"The {breaker.name.replace(':', ' ', 1)}") for breaker in rows]
    return Panel(problems=[item for item in found if item])


dashboard.register("breakers", panel, permission="core.view_circuitbreaker", position=30)


class HoldForm(forms.Form):
    """How to hold a breaker."""

    state = forms.ChoiceField(choices=[(item.value, item.label) for item in breakers.HOLDS])
    reason = forms.CharField(max_length=300)
    minutes = forms.IntegerField(required=False, min_value=1, max_value=breakers.MAX_HOLD_MINUTES)


@admin.register(CircuitBreaker)
class CircuitBreakerAdmin(ReadOnlyMixin, ButtonsMixin):
    list_display = ("name", "shown_state", "since_when", "reason_shown", "failures", "next_probe")
    list_filter = (
        ("kind", ChoicesCheckboxFilter),
        ("state", ChoicesCheckboxFilter),
        ("forced", ChoicesCheckboxFilter),
    )
    list_filter_submit = True
    search_fields = ("name",)
    empty_hint = (
        "A breaker stands before every node, and before what else is called. Add a node, and its breaker is here."
    )
    ordering = (F("forced_at").desc(nulls_last=True), F("opened_at").desc(nulls_last=True), "name")

    buttons = ("reset", "trip", "hold")
    dangerous = ("trip", "hold")

    # Columns

    @admin.display(description="State", ordering="state")
    def shown_state(self, breaker: CircuitBreaker) -> SafeString:
        return state_badge(breaker)

    @admin.display(description="Since", ordering="opened_at")
    def since_when(self, breaker: CircuitBreaker) -> SafeString:
        return moment(breaker.troubled_since or breaker.since)

    @admin.display(description="Why")
    def reason_shown(self, breaker: CircuitBreaker) -> str:
        return breaker.why or NOTHING

    @admin.display(description="Next probe", ordering="probe_at")
    def next_probe(self, breaker: CircuitBreaker) -> str:
        return f"{breaker.probe_at:%H:%M:%S} UTC" if breaker.probe_at and not breaker.is_held else NOTHING

    # The page of one breaker

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        breaker = self.get_object(request, object_id)
        if breaker is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, breaker):
            raise PermissionDenied
        page = pages.get(breaker.kind)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": breaker.name,
            "breaker": breaker,
            "original": breaker,
            "state_badge": state_badge(breaker),
            "target_url": page(breaker) if page else "",
            "buttons": self.offered_buttons(request, breaker),
            "may_hold": self.has_change_permission(request, breaker),
            "hold_choices": breakers.HOLDS,
            "max_minutes": breakers.MAX_HOLD_MINUTES,
            "changes": [(item, CHANGE_TONES.get(item.what, "warning")) for item in breaker.changes.all()],
        }
        return TemplateResponse(request, "console/breaker.html", context)

    def offers(self, name: str, obj: CircuitBreaker) -> bool:
        # To hold one takes a reason, so that has a form of its own.
        is_well = not (obj.is_shut or obj.is_held or obj.failures)
        return {"reset": not is_well, "trip": not obj.is_shut, "hold": False}[name]

    @button("Reset", icon="restart_alt", permission="change", tone="primary")
    def reset(self, request: HttpRequest, breaker: CircuitBreaker) -> None:
        breakers.reset(breaker.pk, by=_person(request))
        messages.success(request, "Reset: it is closed, and nothing is held against it.")

    @button("Trip", icon="power_off", permission="change", tone="danger", confirm="Nothing goes through for a minute.")
    def trip(self, request: HttpRequest, breaker: CircuitBreaker) -> None:
        breakers.trip(breaker.pk, by=_person(request))
        messages.success(request, "Tripped: nothing goes through for a minute. Then a probe decides.")

    @button("Hold", icon="lock", permission="change")
    def hold(self, request: HttpRequest, breaker: CircuitBreaker) -> None:
        form = HoldForm(request.POST)
        if not form.is_valid():
            problems = "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in form.errors.items())
            messages.error(request, f"Nothing has changed. {problems}")
            return
        wanted = form.cleaned_data
        forced = CircuitBreaker.Forced(wanted["state"])
        breakers.hold(breaker.pk, forced, by=_person(request), reason=wanted["reason"], minutes=wanted["minutes"])
        messages.success(request, f"{forced.label}. Reset it to let calls and probes decide again.")


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the console's pages are for people who signed in
    return request.user
