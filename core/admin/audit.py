"""The audit log, to be searched, read and taken along."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.db.models import Min, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, DropdownFilter, RangeDateFilter

from core import audit
from core.admin.base import ReadOnlyMixin, State, VastListMixin
from core.audit import export
from core.formats import NOTHING, age, badge, changed_lines, moment
from core.models import AuditEntry, MaintenanceRun
from core.ops.jobs import verdicts
from core.ops.jobs.audit import VERIFY

LOOK_BACK = 1000  # entries whose kinds are offered
LATE = timedelta(minutes=3)  # after that, what is not sealed is no denial that is still being counted
CHANGES_NAMED = 4  # fields, in the list


class FamilyFilter(DropdownFilter):
    """By what comes before the dot; rows are read newest first until a page is full, so it needs no index.

    Offers the kinds of the latest entries: asking for all would read the whole log.
    """

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        latest = AuditEntry.objects.order_by("-pk").values_list("action", flat=True)
        kinds = {action.partition(".")[0] for action in latest[:LOOK_BACK]}
        if chosen := request.GET.get(self.parameter_name):
            kinds.add(chosen)
        return [(kind, kind.replace("-", " ").capitalize()) for kind in sorted(kinds)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action__startswith=f"{self.value()}.") if self.value() else queryset


class DayFilter(RangeDateFilter):
    """By whole days in UTC, the last one included; unfold's own takes a day for its first moment."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if first := self._day("from"):
            queryset = queryset.filter(created_at__gte=datetime.combine(first, time.min, UTC))
        if last := self._day("to"):
            queryset = queryset.filter(created_at__lte=datetime.combine(last, time.max, UTC))
        return queryset

    def _day(self, end: str) -> date | None:
        text = self.used_parameters.get(f"{self.parameter_name}_{end}")
        try:
            return date.fromisoformat(text) if text else None
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyMixin, VastListMixin):
    list_display = ("what", "who", "on", "how", "place", "at")
    list_filter = (FamilyFilter, ("outcome", ChoicesCheckboxFilter), ("created_at", DayFilter))
    list_filter_submit = True
    list_before_template = "console/audit_state.html"
    search_fields = ("pk",)
    search_help_text = "A whole name, id, address, request or action"
    empty_hint = (
        "Sign-ins, changes made in the console and by the API, and everything that was refused are written down here, "
        "in a chain that shows whether somebody changed it afterwards."
    )
    ordering = ("-pk",)
    show_facets = admin.ShowFacets.NEVER

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("core.export_auditentry")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry], search_term: str
    ) -> tuple[QuerySet[AuditEntry], bool]:
        """Find what equals the term, by indexes alone: a search inside of texts would read the whole log."""
        term = search_term.strip()
        columns = ("actor_name", "object_id", "object_name", "address", "request_id", "action")
        wanted = Q()
        for column in columns:
            wanted |= Q(**{column: term})
        return (queryset.filter(wanted) if term else queryset), False

    # Columns

    @admin.display(description="What")
    def what(self, entry: AuditEntry) -> SafeString:
        tone = "bad" if entry.outcome == AuditEntry.Outcome.REFUSED else "neutral"
        times = format_html(' <span class="c-subtle">×{}</span>', entry.count) if entry.count > 1 else ""
        return format_html("{}{}", badge(entry.action, tone, entry.get_outcome_display()), times)

    @admin.display(description="Who")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor_name or NOTHING

    @admin.display(description="Object")
    def on(self, entry: AuditEntry) -> str:
        return _cut(entry.object_name or entry.object_id or NOTHING, 70)

    @admin.display(description="Changes")
    def how(self, entry: AuditEntry) -> str:
        names = list(entry.changes)
        more = f" and {len(names) - CHANGES_NAMED} more" if len(names) > CHANGES_NAMED else ""
        return f"{', '.join(names[:CHANGES_NAMED])}{more}" if names else _cut(entry.detail or NOTHING, 90)

    @admin.display(description="From")
    def place(self, entry: AuditEntry) -> str:
        return " · ".join(filter(None, (entry.address, entry.credential))) or NOTHING

    @admin.display(description="When", ordering="created_at")
    def at(self, entry: AuditEntry) -> SafeString:
        return moment(entry.created_at)

    # Pages

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/", view, name="core_auditentry_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "state": chain_state(),
            "may_verify": request.user.has_perm("core.add_maintenancerun"),
            "verify_job": VERIFY,
            "export_url": self._export_url(request) if self.has_export_permission(request) else "",
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def _export_url(self, request: HttpRequest) -> str:
        query = request.GET.urlencode()
        return reverse("admin:core_auditentry_export") + (f"?{query}" if query else "")

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """Hand out the rows that search and filters leave, as JSON Lines; it is written down who took them."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{reverse('admin:core_auditentry_changelist')}?{ERROR_FLAG}=1")
        audit.record("audit-log.exported", detail=request.GET.urlencode() or "all of it")
        name = f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.jsonl"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingHttpResponse(export.document(rows), content_type="application/x-ndjson", headers=headers)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        entry = self.get_object(request, object_id)
        if entry is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, entry):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": entry.action,
            "entry": entry,
            "original": entry,
            "outcome_badge": badge(
                entry.get_outcome_display(), "bad" if entry.outcome == AuditEntry.Outcome.REFUSED else "good"
            ),
            "changes": [change_of(name, pair) for name, pair in entry.changes.items()],
            "facts": facts(entry),
        }
        return TemplateResponse(request, "console/audit_entry.html", context)


def chain_state() -> State:
    """Tell of the last walk along the chain, and of what is not in it yet."""
    unsealed = AuditEntry.objects.unsealed()
    count, oldest = unsealed.count(), unsealed.aggregate(oldest=Min("created_at"))["oldest"]
    waiting = f"{count} not sealed yet, the oldest for {age(oldest)}." if count else "every entry is sealed."
    checked = MaintenanceRun.objects.filter(job=VERIFY).exclude(status=MaintenanceRun.Status.RUNNING)
    run = checked.order_by("-pk").first()
    if run is not None and verdicts.found_damage(run):
        return State("bad", "The log does not hold", run.error, run.finished_at)
    if run is not None and run.status == MaintenanceRun.Status.FAILED:
        detail = f"So nobody knows whether it holds. Mend what it says, and check it again: {run.error}"
        return State("warning", "The last check did not come to its end", detail, run.finished_at)
    if oldest is not None and timezone.now() - oldest > LATE:
        return State("warning", "Nothing seals the log", f"Web and worker processes do it. Now: {waiting}", oldest)
    if run is None:
        return State("warning", "Not checked yet", f"It is, once a day. Now: {waiting}")
    return State("good", "The chain is intact", f"{run.summary} Now: {waiting}", run.finished_at)


# What the page of one entry shows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A field's change; for texts of several lines, `lines` as `changed_lines` gives them."""

    name: str
    before: str
    after: str
    lines: Sequence[tuple[str, str]]


def change_of(name: str, pair: Sequence[Any]) -> Change:
    before, after = (_text(value) for value in pair)
    if "\n" not in before + after:
        return Change(name, before or NOTHING, after or NOTHING, [])
    return Change(name, "", "", changed_lines(before, after))


def facts(entry: AuditEntry) -> list[tuple[str, str]]:
    """Names and values of what is known, in the order in which one asks."""
    seal = f"{entry.sequence} · {entry.seal}" if entry.sequence else "not sealed yet"
    told = [
        ("Who", entry.actor_name),
        ("Person's id", str(entry.actor_id or "")),
        ("Signed in by", entry.credential),
        ("Network address", entry.address),
        ("Request", entry.request_id),
        ("Object", entry.object_name),
        ("Kind of object", entry.object_type),
        ("Object's id", entry.object_id),
        ("Detail", entry.detail),
        ("How often", f"{entry.count} times within a minute" if entry.count > 1 else ""),
        ("Place in the chain", seal),
    ]
    return [(name, value) for name, value in told if value]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, indent=2 if isinstance(value, dict) else None, sort_keys=True, ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
