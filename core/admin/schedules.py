"""Periodic work, editable: celery beat's own admin in the console's look."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.admin import ClockedScheduleAdmin as BeatClockedScheduleAdmin
from django_celery_beat.admin import CrontabScheduleAdmin as BeatCrontabScheduleAdmin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatPeriodicTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm, TaskSelectWidget
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from core.admin.audited import AuditedAdmin
from core.admin.base import report
from core.formats import moment
from core.ops import schedules

OWN_FIELDSETS = (
    (None, {"fields": ("job", "description", "enabled", "last_run", "runs")}),
    ("When", {"fields": ("interval", "crontab", "crontab_translation", "start_time")}),
    ("By the sun, or once", {"fields": ("solar", "clocked", "one_off"), "classes": ("collapse",)}),
)
SHARED = "Several schedules use it, so it cannot be changed here. Choose another one in yours, or add one there."

for _model in (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule):
    admin.site.unregister(_model)


class ConsoleTaskSelectWidget(UnfoldAdminSelectWidget, TaskSelectWidget):
    """Beat's list of registered tasks, drawn by unfold."""


class ConsolePeriodicTaskForm(PeriodicTaskForm):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = ConsoleTaskSelectWidget()


class OwnScheduleForm(forms.ModelForm):
    """When housekeeping does one of its jobs. Which job that is, and with what arguments, is not for people to set."""

    class Meta:
        model = PeriodicTask
        fields = ("description", "enabled", "interval", "crontab", "start_time", "solar", "clocked", "one_off")
        widgets: ClassVar[dict[str, forms.Widget]] = {"description": UnfoldAdminTextInputWidget()}
        labels: ClassVar[dict[str, str]] = {
            "interval": "Interval",
            "crontab": "Times (crontab)",
            "start_time": "Not before",
            "solar": "Position of the sun",
            "clocked": "One moment",
            "one_off": "Only once",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "description": "",
            "enabled": "",
            "interval": "Choose this, or times of the day or the week below, not both.",
            "crontab": "",
            "start_time": "Empty: at once.",
            "solar": "Instead of an interval.",
            "clocked": "Instead of an interval.",
            "one_off": "It disables itself afterwards.",
        }


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(BeatPeriodicTaskAdmin, AuditedAdmin):
    list_display = ("name", "enabled", "scheduler", "last_run", "total_run_count", "description")
    list_filter = ("enabled", "task")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    date_hierarchy = None
    empty_hint = "A schedule has the worker do something by itself. Housekeeping's own are made at the next start."

    form: ClassVar[type[forms.ModelForm]] = ConsolePeriodicTaskForm
    actions = ("enable_selected", "disable_selected")

    def get_fieldsets(self, request: HttpRequest, obj: PeriodicTask | None = None) -> Any:
        return OWN_FIELDSETS if _is_own(obj) else super().get_fieldsets(request, obj)

    def get_form(
        self, request: HttpRequest, obj: PeriodicTask | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = OwnScheduleForm if _is_own(obj) else self.form
        return super().get_form(request, obj, change, form=form, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> tuple[str, ...]:
        """Under another name, a schedule of housekeeping would be made a second time at the next start."""
        fixed = ("job", "last_run", "runs") if _is_own(obj) else ()
        return (*super().get_readonly_fields(request, obj), *fixed)

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """An own schedule would be made again at the next start; it is disabled instead."""
        return super().has_delete_permission(request, obj) and not _is_own(obj)

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        if _is_own(obj):
            schedules.drop_late_messages(obj)
        super().save_model(request, obj, form, change)

    @admin.display(description="Last run", ordering="last_run_at")
    def last_run(self, task: PeriodicTask) -> str:
        return moment(task.last_run_at)

    @admin.display(description="In words")
    def crontab_translation(self, task: PeriodicTask) -> str:
        return str(super().crontab_translation(task))

    @admin.display(description="Job")
    def job(self, task: PeriodicTask) -> str:
        return schedules.job_of(task)

    @admin.display(description="What it did")
    def runs(self, task: PeriodicTask) -> SafeString:
        page = reverse("admin:core_maintenancerun_changelist")
        return format_html('<a class="c-link" href="{}?job={}">Its runs</a>', page, schedules.job_of(task))

    @admin.action(description="Enable selected schedules", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        _switch(request, queryset, is_enabled=True, verb="Enabled", why_skipped="enabled already.")

    @admin.action(description="Disable selected schedules", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        _switch(request, queryset, is_enabled=False, verb="Disabled", why_skipped="disabled already.")


def _is_own(task: PeriodicTask | None) -> bool:
    return task is not None and schedules.is_own(task.name)


def _switch(
    request: HttpRequest, tasks: QuerySet[PeriodicTask], *, is_enabled: bool, verb: str, why_skipped: str
) -> None:
    total = tasks.count()
    changed = tasks.exclude(enabled=is_enabled).update(enabled=is_enabled, last_run_at=None)
    PeriodicTasks.update_changed()  # beat looks only when told
    report(request, done=changed, verb=verb, noun="schedule", skipped=total - changed, why_skipped=why_skipped)


class ScheduleAdmin(AuditedAdmin):
    """Intervals and the like: made while editing a periodic task. One that several tasks use is not edited.

    The pencil of one of them leads here, and the others would change unseen.
    """

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_shared(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_shared(obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [(None, {"fields": (), "description": SHARED}), *fieldsets] if _is_shared(obj) else fieldsets

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # no entry of its own in the menu


def _is_shared(schedule: Any) -> bool:
    return schedule is not None and schedule.periodictask_set.count() > 1


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ScheduleAdmin):
    pass


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(BeatCrontabScheduleAdmin, ScheduleAdmin):
    inlines = ()


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(BeatClockedScheduleAdmin, ScheduleAdmin):
    inlines = ()


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ScheduleAdmin):
    pass
