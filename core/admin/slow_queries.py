"""Statements that take long: which, for whom, how the database runs them, and what would help."""

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core import audit
from core.access.sign_in import recent
from core.admin import dashboard
from core.admin.base import ReadOnlyMixin, report
from core.admin.dashboard import Panel, Problem
from core.formats import age, duration, moment
from core.models import SlowQuery
from core.ops import query_plans, running_queries
from core.ops.query_plans import NoPlan

SHOWN_CHARACTERS = 160


class StopForm(forms.Form):
    """Which statement to end: the one that its session has been at since then."""

    pid = forms.IntegerField(min_value=1, max_value=2**31 - 1)
    since = forms.CharField(max_length=40)

    def clean_since(self) -> datetime:
        try:
            return datetime.fromisoformat(self.cleaned_data["since"])
        except ValueError as error:
            raise forms.ValidationError("It is not a moment.") from error


@admin.register(SlowQuery)
class SlowQueryAdmin(ReadOnlyMixin):
    list_display = ("shown_text", "work", "times", "mean", "worst", "total", "last_seen")
    list_filter = ("work",)
    search_fields = ("text", "work")
    list_before_template = "console/slow_queries.html"
    list_per_page = 25
    ordering = ("-total_seconds",)
    actions = ("forget",)

    fieldsets = (
        (None, {"fields": ("whole_text", "work", "times", "mean", "worst", "total", "first_seen_at", "last_seen_at")}),
    )
    readonly_fields = ("whole_text", "times", "mean", "worst", "total")
    change_form_before_template = "console/slow_query.html"

    @property
    def empty_hint(self) -> str:
        if not settings.SLOW_QUERY_SECONDS:
            return "Nothing is kept: SUTAZAI_SLOW_QUERY_MS is 0."
        limit = duration(settings.SLOW_QUERY_SECONDS)
        return f"No statement took {limit} so far. One that does is here within seconds, without its values."

    def has_change_permission(self, request: HttpRequest, obj: SlowQuery | None = None) -> bool:
        return False

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("core.delete_slowquery")

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Who may end statements: whoever may change what is slow, which this admin has no form for."""
        return request.user.has_perm("core.change_slowquery")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SlowQuery]:
        return super().get_queryset(request).annotate(mean_of_all=F("total_seconds") / F("count"))

    def get_urls(self) -> list[URLPattern]:
        stop = self.admin_site.admin_view(self.stop)
        return [path("stop/", stop, name="core_slowquery_stop"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "running": running_queries.running_too_long(),
            "statistics": running_queries.statistics(),
            "may_stop": self.has_stop_permission(request),
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        query = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if query is not None and "plan" in request.GET and self.has_view_permission(request, query):
            try:
                context["plan"] = query_plans.plan(query.text)
            except NoPlan as error:
                context["no_plan"] = str(error)
        return super().change_view(request, object_id, form_url, context)

    def stop(self, request: HttpRequest) -> HttpResponse:
        """End a statement, or a session whose transaction lies open."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_stop_permission(request):
            raise PermissionDenied
        page = reverse("admin:core_slowquery_changelist")
        if away := recent.ask(request, back_to=page):
            return away
        form = StopForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Nothing was ended: the request does not name a statement.")
        elif running_queries.stop(form.cleaned_data["pid"], form.cleaned_data["since"]):
            pid = str(form.cleaned_data["pid"])
            audit.record("database-session.stopped", target=audit.Subject("database-session", pid, f"process {pid}"))
            messages.success(request, f"Ended what process {pid} of PostgreSQL was at.")
        else:
            messages.warning(request, "Nothing was ended: it had ended by itself.")
        return HttpResponseRedirect(page)

    @admin.action(description="Forget selected statements", permissions=["forget"])
    def forget(self, request: HttpRequest, queryset: QuerySet[SlowQuery]) -> None:
        done, _ = SlowQuery.objects.filter(pk__in=list(queryset.values_list("pk", flat=True))).delete()
        report(request, done=done, verb="Forgot", noun="statement")

    @admin.display(description="Statement", ordering="text")
    def shown_text(self, query: SlowQuery) -> SafeString:
        text = query.text if len(query.text) <= SHOWN_CHARACTERS else f"{query.text[:SHOWN_CHARACTERS]}…"
        return format_html('<span class="c-mono" style="overflow-wrap: anywhere">{}</span>', text)

    @admin.display(description="Statement")
    def whole_text(self, query: SlowQuery) -> SafeString:
        return format_html('<span class="c-mono" style="overflow-wrap: anywhere">{}</span>', query.text)

    @admin.display(description="Times", ordering="count")
    def times(self, query: SlowQuery) -> str:
        return f"{query.count:,}"

    @admin.display(description="Mean", ordering="mean_of_all")
    def mean(self, query: SlowQuery) -> str:
        return duration(query.mean_seconds)

    @admin.display(description="Worst", ordering="worst_seconds")
    def worst(self, query: SlowQuery) -> str:
        return duration(query.worst_seconds)

    @admin.display(description="In all", ordering="total_seconds")
    def total(self, query: SlowQuery) -> str:
        return duration(query.total_seconds)

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, query: SlowQuery) -> SafeString:
        return moment(query.last_seen_at)


def problems() -> Panel:
    """What the dashboard says while statements run too long."""
    running = running_queries.running_too_long()
    if not running:
        return Panel()
    count = "A statement runs" if len(running) == 1 else f"{len(running)} statements run"
    limit = age(running[0].since)
    return Panel(
        problems=[
            Problem(
                "warning",
                f"{count} in PostgreSQL for too long",
                f"The oldest for {limit}: {running[0].text[:SHOWN_CHARACTERS]}",
                since=running[0].since,
                url=reverse("admin:core_slowquery_changelist"),
                action="Open the slow queries",
            )
        ]
    )


dashboard.register("slow-queries", problems, permission="core.view_slowquery", position=96)
