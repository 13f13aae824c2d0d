"""Limits of keys, people and teams, and how much of them is used."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from core.access.limits import usage
from core.access.limits.allowances import level_of, subject_of
from core.access.limits.usage import Gauge, Usage
from core.admin.audited import AuditedAdmin
from core.formats import NOTHING, meter
from core.models import Allowance


def bar(gauge: Gauge) -> SafeString:
    """Draw how much of a limit is used."""
    if gauge.limit is None:
        return format_html('<span class="c-subtle">{}</span>', "no limit")
    if gauge.used is None:
        return format_html("{} of {}", NOTHING, f"{gauge.limit:,}")
    text = f"{gauge.used:,} of {gauge.limit:,}"
    return format_html("{} {}", meter(gauge.used, gauge.limit, text), text)


class _UsageList(ChangeList):
    """Looks up what all rows of a page used at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: list[Allowance] = list(self.result_list)
        bounds = [level_of(subject_of(row)) for row in self.result_list]
        for row, used in zip(self.result_list, usage.of(bounds), strict=True):
            row.usage = used  # type: ignore[attr-defined]  # for `_usage`


@admin.register(Allowance)
class AllowanceAdmin(AuditedAdmin):
    list_display = ("whose", "requests", "tokens", "tokens_of_month", "tasks", "share")
    list_filter = (("team", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("user__username", "team__name", "key__name", "key__key_id")
    list_select_related = ("key", "user", "team")
    empty_hint = "Everybody has the limits of the settings. Add others for a key, a user or a team here."

    fieldsets = (
        ("For whom", {"fields": ("key", "user", "team"), "description": "Exactly one of the three."}),
        (
            "Limits",
            {
                "fields": (
                    "requests_per_minute",
                    "tokens_per_day",
                    "tokens_per_month",
                    "concurrent_tasks",
                    "queue_share",
                )
            },
        ),
        ("Used", {"fields": ("requests", "tokens", "tokens_of_month", "tasks")}),
    )
    readonly_fields = ("requests", "tokens", "tokens_of_month", "tasks")
    autocomplete_fields = ("key", "user", "team")

    def get_fieldsets(self, request: HttpRequest, obj: Allowance | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:2]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _UsageList

    @admin.display(description="For")
    def whose(self, row: Allowance) -> str:
        return f"{subject_of(row).kind}: {row.key or row.user or row.team}"

    @admin.display(description="Requests in this minute")
    def requests(self, row: Allowance) -> SafeString:
        return bar(_usage(row).requests_per_minute)

    @admin.display(description="Tokens today")
    def tokens(self, row: Allowance) -> SafeString:
        return bar(_usage(row).tokens_per_day)

    @admin.display(description="Tokens this month")
    def tokens_of_month(self, row: Allowance) -> SafeString:
        return bar(_usage(row).tokens_per_month)

    @admin.display(description="Tasks at a time")
    def tasks(self, row: Allowance) -> SafeString:
        return bar(_usage(row).concurrent_tasks)

    @admin.display(description="Share of the queues")
    def share(self, row: Allowance) -> str:
        share = _usage(row).queue_share
        return NOTHING if share is None else f"{share:g}"


def _usage(row: Allowance) -> Usage:
    """What the list looked up for all rows, else for this one."""
    if not hasattr(row, "usage"):
        row.usage = usage.of([level_of(subject_of(row))])[0]  # type: ignore[attr-defined]
    return row.usage  # type: ignore[attr-defined]


class LimitsLinkMixin(ModelAdmin):
    """Has a read-only field `limits` for the page of a key, a user or a team; `limits_of` names which of them."""

    limits_of: str

    @admin.display(description="Limits")
    def limits(self, obj: Model) -> SafeString:
        if obj._state.adding:
            return format_html("{}", NOTHING)
        rows: QuerySet[Allowance] = Allowance.objects.filter(**{self.limits_of: obj.pk})
        if row := rows.first():
            return format_html('<a class="c-link" href="{}">Its own</a>', _page("change", row.pk))
        link = f"{_page('add')}?{self.limits_of}={obj.pk}"
        return format_html('Those of the settings. <a class="c-link" href="{}">Set others</a>', link)


def _page(name: str, *args: object) -> str:
    return reverse(f"admin:core_allowance_{name}", args=args)
