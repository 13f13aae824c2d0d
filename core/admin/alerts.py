"""Alerts: what is wrong, why, since when, the value beside its limit, and what to do; and for what nobody is told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, F, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesCheckboxFilter
from unfold.views import ChangeList

from core.admin import dashboard
from core.admin.base import ButtonsMixin, ReadOnlyMixin, button
from core.admin.dashboard import Figure, Panel, Problem
from core.exceptions import Refused
from core.formats import NOTHING, age, badge, moment
from core.models import Alert, AlertSilence, User, alert_about
from core.ops import clock
from core.ops.alerts import Rule, handling, rules

TONES = {Alert.Severity.CRITICAL: "bad", Alert.Severity.WARNING: "warning"}
LIST = "admin:core_alert_changelist"
EARLIER = 20
SHOWN = 4  # of several that fire, on the dashboard


def state_badge(alert: Alert, silence: AlertSilence | None) -> SafeString:
    if not alert.is_firing:
        return badge("Resolved", "good")
    if silence:
        return badge("Silenced", "neutral", f"Until {silence.until:%Y-%m-%d %H:%M} UTC, by {silence.by}")
    return badge(alert.get_severity_display(), TONES[Alert.Severity(alert.severity)])


def value_beside_limit(alert: Alert) -> str:
    """The latest value, and what it should not be, such as "7.2 s (limit 5 s)"."""
    rule = rules.find(alert.name)
    if rule is None or rule.unit == rules.Unit.TRUTH:
        return NOTHING
    return f"{rule.unit.text(alert.value)} (limit {rule.unit.text(alert.limit)})"


def _silence_of(alert: Alert, silences: Sequence[AlertSilence]) -> AlertSilence | None:
    """Of those that cover it, the one that lasts longest."""
    covering = [silence for silence in silences if silence.covers(alert)]
    return max(covering, key=lambda silence: silence.until, default=None)


def _holding() -> list[AlertSilence]:
    return list(AlertSilence.objects.holding(clock.now()))


class AcknowledgeForm(forms.Form):
    note = forms.CharField(max_length=300, required=False)


class SilenceForm(forms.Form):
    """For how long nobody is told, and why."""

    minutes = forms.IntegerField(min_value=1, max_value=handling.MAX_SILENCE_MINUTES)
    reason = forms.CharField(max_length=300)


class RuleSilenceForm(SilenceForm):
    """The same for all alerts of a rule, or only for the one that is about something."""

    only_for = forms.CharField(max_length=200, required=False)


class _SilencedList(ChangeList):
    """Looks up what silences all rows of a page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: list[Alert] = list(self.result_list)
        silences = _holding()
        for alert in self.result_list:
            alert.silence = _silence_of(alert, silences)  # type: ignore[attr-defined]


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, ButtonsMixin):
    list_display = ("title", "state", "since_when", "figures", "looked_after", "ended")
    list_filter = (
        ("severity", ChoicesCheckboxFilter),
        ("name", AllValuesCheckboxFilter),
        ("resolved_at", admin.EmptyFieldListFilter),
    )
    list_filter_submit = True
    list_before_template = "console/alerts_head.html"
    search_fields = ("title", "name", "about")
    empty_hint = "Nothing was wrong so far. “What is watched, and silences” tells what is looked at, and the limits."
    # What fires first, of that what is worst, of that what is new.
    ordering = (
        F("resolved_at").desc(nulls_first=True),
        Case(When(severity=Alert.Severity.CRITICAL, then=Value(0)), default=Value(1)),
        "-pk",
    )

    buttons = ("acknowledge", "silence")

    # Columns

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _SilencedList

    @admin.display(description="State", ordering="severity")
    def state(self, alert: Alert) -> SafeString:
        return state_badge(alert, alert.silence)  # type: ignore[attr-defined]  # by `_SilencedList`

    @admin.display(description="Since", ordering="since")
    def since_when(self, alert: Alert) -> SafeString:
        return moment(alert.since)

    @admin.display(description="Value")
    def figures(self, alert: Alert) -> str:
        return value_beside_limit(alert)

    @admin.display(description="Acknowledged", ordering="acknowledged_at")
    def looked_after(self, alert: Alert) -> str:
        return f"by {alert.acknowledged_by}" if alert.acknowledged_at else NOTHING

    @admin.display(description="Resolved", ordering="resolved_at")
    def ended(self, alert: Alert) -> SafeString:
        return moment(alert.resolved_at)

    # The page of one alert

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        alert = self.get_object(request, object_id)
        if alert is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, alert):
            raise PermissionDenied
        silence, rule = _silence_of(alert, _holding()), rules.find(alert.name)
        may_change = self.has_change_permission(request, alert)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": alert.title,
            "alert": alert,
            "original": alert,
            "rule": rule,
            "page_url": reverse(rule.page) if rule else "",
            "state_badge": state_badge(alert, silence),
            "value": value_beside_limit(alert),
            "silence": silence,
            "may_acknowledge": may_change and alert.is_firing and alert.acknowledged_at is None,
            "may_silence": may_change and alert.is_firing,
            "max_minutes": handling.MAX_SILENCE_MINUTES,
            "earlier": Alert.objects.filter(name=alert.name, about=alert.about).exclude(pk=alert.pk)[:EARLIER],
        }
        return TemplateResponse(request, "console/alert.html", context)

    @button("Acknowledge", icon="visibility", permission="change", tone="primary")
    def acknowledge(self, request: HttpRequest, alert: Alert) -> None:
        handling.acknowledge(alert, by=_person(request), **_filled(AcknowledgeForm(request.POST)))
        messages.success(request, f"{alert.acknowledged_by} looks after it.")

    @button("Silence", icon="notifications_off", permission="change")
    def silence(self, request: HttpRequest, alert: Alert) -> None:
        about = "" if "all" in request.POST else alert.about
        silence = handling.silence(alert.name, about, by=_person(request), **_filled(SilenceForm(request.POST)))
        messages.success(request, f"Silenced until {silence.until:%Y-%m-%d %H:%M} UTC: nobody is told of it.")


def _filled(form: forms.Form) -> dict[str, Any]:
    """What a form says. Raises Refused."""
    if not form.is_valid():
        problems = "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in form.errors.items())
        raise Refused(f"Nothing has changed. {problems}")
    return form.cleaned_data


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the console's pages are for people who signed in
    return request.user


# What is watched ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Watched:
    """A rule, as the page draws it. about: how to write what its alerts are about."""

    rule: Rule
    badge: SafeString
    url: str
    about: str


def watched(request: HttpRequest) -> HttpResponse:
    """Show all rules and silences; by POST, silence a rule or end a silence."""
    if not request.user.has_perm("core.view_alert"):
        raise PermissionDenied
    may_change = request.user.has_perm("core.change_alert")
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        try:
            messages.success(request, _change(request))
        except Refused as refusal:
            messages.error(request, refusal.detail)
        return HttpResponseRedirect(reverse("console-alerts-watched"))
    firing = list(Alert.objects.firing())
    context = {
        **admin.site.each_context(request),
        "title": "What is watched",
        "rules": [
            _watched(rule, [alert for alert in firing if alert.name == rule.name]) for rule in rules.registered()
        ],
        "silences": _holding(),
        "may_change": may_change,
        "max_minutes": handling.MAX_SILENCE_MINUTES,
    }
    return TemplateResponse(request, "console/alerts_watched.html", context)


def _watched(rule: Rule, firing: list[Alert]) -> _Watched:
    if not firing:
        return _Watched(rule, badge("Well", "good"), "", _form_of(rule))
    return _Watched(rule, badge("Firing", TONES[rule.severity]), _page_of(firing), _form_of(rule))


def _page_of(alerts: Sequence[Alert]) -> str:
    """Where to look at these: the page of the only one, else the list."""
    return reverse("admin:core_alert_change", args=[alerts[0].pk]) if len(alerts) == 1 else reverse(LIST)


def _change(request: HttpRequest) -> str:
    """Do what a form of the page wants; returns what was done. Raises Refused."""
    if rule := rules.find(request.POST.get("rule", "")):
        filled = _filled(RuleSilenceForm(request.POST))
        about = _about(rule, filled.pop("only_for"))
        silence = handling.silence(rule.name, about, by=_person(request), **filled)
        return f"Silenced until {silence.until:%Y-%m-%d %H:%M} UTC: nobody is told of {silence}."
    try:
        silence = forms.ModelChoiceField(AlertSilence.objects.all()).clean(request.POST.get("end", ""))
    except forms.ValidationError as error:
        raise Refused("Nothing has changed. The silence is over, or the form was not understood.") from error
    handling.end_silence(silence, by=_person(request))
    return "The silence is over. Who was not told of what fires is told now."


def _about(rule: Rule, text: str) -> str:
    """Read what an alert of a rule would be about, as the pages write it: "pool=database, process=web".

    Of a single label the value suffices. Empty: whatever it is about. Raises Refused.
    """
    names = rule.labels
    if not text:
        return ""
    if not names:
        raise Refused(f"Nothing has changed. There is only one {rule.name}: leave “Only for” empty.")
    if len(names) == 1 and not text.startswith(f"{names[0]}="):
        text = f"{names[0]}={text}"
    parts = [part.partition("=") for part in re.split(rf",\s*(?=(?:{'|'.join(names)})=)", text)]
    labels = {name: value.strip() for name, _, value in parts}
    if sorted(name for name, _, _ in parts) != names or not all(labels.values()):
        raise Refused(f"Nothing has changed. Write what {rule.name} is silenced for as {_form_of(rule)}.")
    return alert_about(labels)


def _form_of(rule: Rule) -> str:
    """What its alerts are about, with the values left out: "pool=…, process=…"."""
    return alert_about(dict.fromkeys(rule.labels, "…"))


# The dashboard ------------------------------------------------------------------------------------------------------


def panel() -> Panel:
    """What fires, in one line: the other panels tell most of it at length."""
    silences = _holding()
    firing = [alert for alert in Alert.objects.firing().order_by("pk") if not _silence_of(alert, silences)]
    is_bad = any(alert.severity == Alert.Severity.CRITICAL for alert in firing)
    tone = ("bad" if is_bad else "warning") if firing else ""
    hint = f"since {age(min(alert.since for alert in firing))}" if firing else "nothing fires"
    figure = Figure("Alerts", str(len(firing)), hint, url=reverse(LIST), tone=tone)
    return Panel(figures=[figure], problems=[_problem(firing, tone)] if firing else [])


def _problem(firing: list[Alert], level: str) -> Problem:
    titles = "; ".join(alert.title for alert in firing[:SHOWN])
    more = f"; and {len(firing) - SHOWN} more" if len(firing) > SHOWN else ""
    return Problem(
        level,
        "An alert fires" if len(firing) == 1 else f"{len(firing)} alerts fire",
        f"{titles}{more}.",
        since=min(alert.since for alert in firing),
        url=_page_of(firing),
        action="What to do",
    )


dashboard.register("alerts", panel, permission="core.view_alert", position=15)
