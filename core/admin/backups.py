"""Backups: how old the newest good one is, which there are, and whether they can be relied on."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from core.admin import dashboard
from core.admin.base import ReadOnlyMixin, State, VastListMixin
from core.admin.dashboard import Panel, Problem
from core.admin.maintenance import hand_over
from core.formats import NOTHING, age, badge, duration, moment, number, size
from core.models import Backup, MaintenanceRun
from core.ops import maintenance
from core.ops.backup import catalogue
from core.ops.jobs.backup import BACK_UP, DRILL

PERMISSION = "core.view_backup"
JOBS = {BACK_UP: ("Back up now", "backup"), DRILL: ("Try the newest", "fact_check")}
TONES = {Backup.Verdict.PASSED: "good", Backup.Verdict.FAILED: "bad"}
HELP = "Start one below, and look at the last run where it fails: the disk may be full, or pg_dump missing."


def state() -> State:
    """Say whether one could lose anything today that is not saved, and what to do."""
    newest = catalogue.newest_good()
    if late := _late():
        return State("bad", late, HELP, catalogue.unsaved_since())
    if newest is None:
        return State("warning", "There is no backup yet", "One is made every day. Start the first one below.")
    if newest.verdict != Backup.Verdict.PASSED:
        detail = "The newest backup was not tried yet; it is, once a week. Only a backup that was restored is one."
        return State("warning", "The newest backup was never tried", detail, newest.created_at)
    detail = f"{newest.name} was restored within {duration(newest.drill_seconds)}, and everything was there."
    return State("good", "The newest good backup was tried", detail, newest.created_at)


def _late() -> str:
    """What is too late; empty: nothing is."""
    since = catalogue.unsaved_since()
    if since is None or timezone.now() - since < timedelta(seconds=settings.BACKUP_MAX_AGE_SECONDS):
        return ""
    return f"Nothing was backed up for {age(since)}"


def problems() -> Panel:
    """What the dashboard says while backups are too old, or the newest one cannot be relied on."""
    url = reverse("admin:core_backup_changelist")
    found = []
    if late := _late():
        found.append(Problem("bad", late, HELP, since=catalogue.unsaved_since(), url=url, action="Open the backups"))
    newest = Backup.objects.order_by("-created_at").first()
    if newest is not None and not newest.is_good:
        why = "its file is gone" if newest.missing_since else newest.report.strip().splitlines()[-1:]
        detail = why if isinstance(why, str) else " ".join(why)
        since = newest.missing_since or newest.drilled_at
        title = "The newest backup cannot be relied on"
        found.append(Problem("bad", title, detail[:200], since=since, url=url, action="Open the backups"))
    return Panel(problems=found)


dashboard.register("backups", problems, permission=PERMISSION, position=85)


@admin.register(Backup)
class BackupAdmin(ReadOnlyMixin, VastListMixin):
    list_display = ("made", "weight", "took", "rows_shown", "secrets", "shown_verdict", "drilled", "name")
    list_display_links = ("made",)
    list_filter = (("verdict", ChoicesCheckboxFilter),)
    list_filter_submit = True
    list_before_template = "console/backup_state.html"
    search_fields = ("name",)
    empty_hint = "A backup is made every day, and one is restored aside every week. “Back up now” makes the first one."
    ordering = ("-created_at",)

    fieldsets = (
        (None, {"fields": ("name", "created_at", "version", "weight", "took", "rows_shown", "secrets")}),
        ("Last drill", {"fields": ("shown_verdict", "drilled_at", "drill_took", "report")}),
    )
    readonly_fields = ("weight", "took", "rows_shown", "secrets", "shown_verdict", "drill_took")

    def has_change_permission(self, request: HttpRequest, obj: Backup | None = None) -> bool:
        return False

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Who may start a job may start these."""
        return request.user.has_perm("core.add_maintenancerun")

    # Columns

    @admin.display(description="Made", ordering="created_at")
    def made(self, backup: Backup) -> SafeString:
        return moment(backup.created_at)

    @admin.display(description="Size", ordering="size_bytes")
    def weight(self, backup: Backup) -> str:
        return size(backup.size_bytes)

    @admin.display(description="Took", ordering="duration_seconds")
    def took(self, backup: Backup) -> str:
        return duration(backup.duration_seconds)

    @admin.display(description="Rows", ordering="rows")
    def rows_shown(self, backup: Backup) -> str:
        return number(backup.rows)

    @admin.display(description="Secrets")
    def secrets(self, backup: Backup) -> SafeString:
        return badge("Encrypted", "good") if backup.has_secrets else badge("None", "warning")

    @admin.display(description="Verdict", ordering="verdict")
    def shown_verdict(self, backup: Backup) -> SafeString:
        if backup.missing_since:
            return badge("File is gone", "bad")
        if not backup.verdict:
            return badge("Never tried", "neutral")
        return badge(backup.get_verdict_display(), TONES[Backup.Verdict(backup.verdict)])

    @admin.display(description="Last drill", ordering="drilled_at")
    def drilled(self, backup: Backup) -> SafeString:
        return moment(backup.drilled_at)

    @admin.display(description="It took")
    def drill_took(self, backup: Backup) -> str:
        return duration(backup.drill_seconds)

    # Pages

    def get_urls(self) -> list[URLPattern]:
        run = self.admin_site.admin_view(self.run)
        return [path("run/<str:job>/", run, name="core_backup_run"), *super().get_urls()]

    def run(self, request: HttpRequest, job: str) -> HttpResponse:
        """Have a worker make a backup, or try one."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_run_permission(request):
            raise PermissionDenied
        if job not in JOBS:
            raise Http404(f"There is no job {job!r} of backups.")
        hand_over(request, maintenance.find(job))
        return HttpResponseRedirect(reverse("admin:core_backup_changelist"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        kept = Backup.objects.filter(missing_since=None)
        newest = catalogue.newest_good()
        context = {
            "state": state(),
            "figures": [
                ("Newest good backup", age(newest.created_at) if newest else NOTHING),
                ("Backups kept", number(kept.count())),
                ("Together", size(kept.aggregate(total=Sum("size_bytes"))["total"])),
                ("Kept at most", f"{settings.BACKUP_KEEP} good ones, for {settings.BACKUP_KEEP_DAYS} days"),
            ],
            "folder": settings.BACKUP_DIR,
            "is_with_secrets": bool(settings.BACKUP_PASSPHRASE),
            "backup_jobs": JOBS if self.has_run_permission(request) else {},
            "last_runs": self._last_runs(),
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def _last_runs(self) -> list[tuple[MaintenanceRun, str]]:
        """Runs that go on, or that failed last: what one wants to hear of here."""
        ended = MaintenanceRun.objects.exclude(status=MaintenanceRun.Status.RUNNING).order_by("-pk")
        found = [maintenance.running(name) or ended.filter(job=name).first() for name in JOBS]
        shown = (MaintenanceRun.Status.RUNNING, MaintenanceRun.Status.FAILED)
        return [(run, JOBS[run.job][0]) for run in found if run is not None and run.status in shown]
