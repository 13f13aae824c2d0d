"""Filters of the task list: what is wrong, why, since when."""

from datetime import timedelta

from django.contrib.admin import ModelAdmin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, RadioFilter

from agents import kinds
from agents.models import AgentTask
from core.models.base import uuid7_from
from core.ops import clock

Status = AgentTask.Status

LOOK_BACK = 1000  # failures whose codes are offered


class TroubleFilter(RadioFilter):
    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return [
            ("waiting", "Waits for more than a minute"),
            ("unclaimed", "Has a slot, but no worker took it"),
            ("retrying", "Waits for another try"),
            ("interrupted", "Its runner died"),
            ("degraded", "Degraded answer"),
            ("truncated", "Truncated answer"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> QuerySet[AgentTask]:
        now = clock.now()
        conditions = {
            "waiting": Q(status=Status.QUEUED, created_at__lt=now - timedelta(minutes=1)),
            "unclaimed": Q(status=Status.RUNNING, runner="", granted_at__lt=now - timedelta(seconds=15)),
            "retrying": Q(status=Status.QUEUED, run_after__isnull=False),
            "interrupted": Q(interruptions__gt=0),
            "degraded": Q(is_degraded=True),
            "truncated": Q(is_truncated=True),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


class ErrorCodeFilter(DropdownFilter):
    """Offers the codes of the latest failures: asking for all codes would read the whole table."""

    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        latest = AgentTask.objects.filter(status=Status.FAILED).order_by("-pk").values_list("error_code", flat=True)
        codes = {*latest[:LOOK_BACK], "cancelled", "deadline-passed"}
        if chosen := request.GET.get(self.parameter_name):
            codes.add(chosen)
        return [(code, code) for code in sorted(codes)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> QuerySet[AgentTask]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


class KindFilter(RadioFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return kinds.choices()

    def queryset(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> QuerySet[AgentTask]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class AgeFilter(RadioFilter):
    """By the key, which begins with the time of submission: the index of the primary key serves it."""

    title = "submitted within"
    parameter_name = "within"

    SPANS = {
        "15m": ("15 minutes", timedelta(minutes=15)),
        "1h": ("an hour", timedelta(hours=1)),
        "24h": ("a day", timedelta(days=1)),
        "7d": ("a week", timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in self.SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> QuerySet[AgentTask]:
        if self.value() not in self.SPANS:
            return queryset
        _, span = self.SPANS[str(self.value())]
        return queryset.filter(pk__gte=uuid7_from(clock.now() - span))
