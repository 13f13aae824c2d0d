"""What housekeeping did, and a way to run it now."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django_celery_beat.models import PeriodicTask
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesCheckboxFilter

from core import audit
from core.admin.base import ReadOnlyMixin, VastListMixin
from core.formats import NOTHING, badge, duration, moment
from core.models import MaintenanceRun
from core.ops import maintenance, schedules
from core.ops.heartbeat import living_workers
from core.ops.maintenance import Job

TONES = {
    MaintenanceRun.Status.RUNNING: "busy",
    MaintenanceRun.Status.SUCCEEDED: "good",
    MaintenanceRun.Status.FAILED: "bad",
}


def hand_over(request: HttpRequest, job: Job) -> None:
    """Have a worker run a job, and tell whoever asks; the audit log tells who did."""
    if maintenance.running(job.name):
        messages.warning(request, "It is running already; nothing was started.")
    elif not maintenance.hand_to_worker(job.name):
        messages.error(request, f"The broker is away, so nothing was started. manage.py maintain --job {job.name}")
    else:
        audit.record("maintenance-run.asked-for", target=audit.Subject("maintenance-run", "", job.name))
        waits = "" if living_workers() else " None is alive: start one, or it waits."
        messages.success(request, f"A worker does it: “{job.title}”. Look here again in a moment.{waits}")


def _run(request: HttpRequest, job: str) -> None:
    run = maintenance.run(job, trigger=MaintenanceRun.Trigger.CONSOLE)
    if run is None:
        messages.warning(request, f"{job} is running already; nothing was started.")
    elif run.status == MaintenanceRun.Status.FAILED:
        messages.error(request, f"{job} failed: {run.error}")
    else:
        messages.success(request, f"{job}: {run.summary} ({duration(run.duration_seconds)})")


@dataclass(frozen=True)
class _Job:
    """A job, as the page shows it. schedule: None where it was deleted."""

    job: Job
    schedule: PeriodicTask | None
    last: MaintenanceRun | None

    @property
    def badge(self) -> SafeString | str:
        return _badge(self.last) if self.last else NOTHING


def _shown_jobs() -> list[_Job]:
    rows = PeriodicTask.objects.filter(task=maintenance.TASK)
    known = {row.name: row for row in rows.select_related("interval", "crontab", "solar", "clocked")}
    latest = maintenance.latest()
    return [_Job(job, known.get(schedules.name_of(job.name)), latest.get(job.name)) for job in maintenance.jobs()]


def _what_next(run: MaintenanceRun) -> dict[str, Any]:
    """What the page of a run that failed offers, unless its job is gone. later: the last run of the job since then."""
    job = next((job for job in maintenance.jobs() if job.name == run.job), None)
    if run.status != MaintenanceRun.Status.FAILED or job is None:
        return {}
    later = MaintenanceRun.objects.filter(job=run.job, pk__gt=run.pk).order_by("-pk").first()
    return {"failed_job": job, "later": later}


def _badge(run: MaintenanceRun) -> SafeString:
    return badge(run.get_status_display(), TONES[MaintenanceRun.Status(run.status)])


@admin.register(MaintenanceRun)
class MaintenanceRunAdmin(ReadOnlyMixin, VastListMixin):
    list_display = ("job", "state", "trigger", "started", "took", "what_happened", "changes")
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("job", AllValuesCheckboxFilter),
        ("trigger", ChoicesCheckboxFilter),
    )
    list_filter_submit = True
    list_before_template = "console/maintenance_jobs.html"
    empty_hint = "Housekeeping runs by itself, and writes down here what it did. Run a job above to see one now."
    ordering = ("-pk",)

    fieldsets = (
        (None, {"fields": ("job", "state", "trigger", "started_at", "finished_at", "took")}),
        ("Result", {"fields": ("summary", "changes", "error")}),
    )
    readonly_fields = ("state", "took", "changes")
    change_form_outer_before_template = "console/maintenance_run.html"

    def has_change_permission(self, request: HttpRequest, obj: MaintenanceRun | None = None) -> bool:
        return False

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Who may start a job: whoever may add runs, which this admin has no form for."""
        return request.user.has_perm("core.add_maintenancerun")

    def get_urls(self) -> list[URLPattern]:
        run_now = self.admin_site.admin_view(self.run_now)
        return [path("run/<str:job>/", run_now, name="core_maintenancerun_run"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        jobs = _shown_jobs() if self.has_run_permission(request) else []
        may_edit = request.user.has_perm("django_celery_beat.change_periodictask")
        return super().changelist_view(request, {**(extra_context or {}), "jobs": jobs, "may_edit": may_edit})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        context = _what_next(run) if run is not None and self.has_view_permission(request, run) else {}
        context["may_run"] = self.has_run_permission(request)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def run_now(self, request: HttpRequest, job: str) -> HttpResponse:
        """Run a job and wait for its end: what it did is the answer. What takes long is left to a worker.

        With "dry" in the form, only say what it would do.
        """
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_run_permission(request):
            raise PermissionDenied
        try:
            found = maintenance.find(job)
        except maintenance.UnknownJobError as error:
            raise Http404(f"There is no job {job!r}.") from error
        if "dry" in request.POST:
            messages.info(request, f"Dry run of {job}, nothing was done. {maintenance.preview(job)}")
        elif found.is_long:
            hand_over(request, found)
        else:
            _run(request, job)
        return HttpResponseRedirect(reverse("admin:core_maintenancerun_changelist"))

    @admin.display(description="Status", ordering="status")
    def state(self, run: MaintenanceRun) -> SafeString:
        return _badge(run)

    @admin.display(description="Started", ordering="started_at")
    def started(self, run: MaintenanceRun) -> SafeString:
        return moment(run.started_at)

    @admin.display(description="Took")
    def took(self, run: MaintenanceRun) -> str:
        return duration(run.duration_seconds)

    @admin.display(description="Result")
    def what_happened(self, run: MaintenanceRun) -> str:
        text = run.summary or run.error or NOTHING
        return text if len(text) <= 120 else text[:120] + "…"

    @admin.display(description="Before → after")
    def changes(self, run: MaintenanceRun) -> SafeString | str:
        names = [*run.before, *(name for name in run.after if name not in run.before)]
        lines = ((name, run.before.get(name, NOTHING), run.after.get(name, NOTHING)) for name in names)
        return format_html_join(", ", "{}: {} → {}", lines) or NOTHING
