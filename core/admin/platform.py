"""The platform's part of the dashboard: the parts that everything depends on, and housekeeping that failed."""

from datetime import datetime

from django.urls import reverse

from core.admin import dashboard
from core.admin.dashboard import Cell, Panel, Problem, Table
from core.models import MaintenanceRun
from core.ops import doctor, health, maintenance

TITLES = {
    "workers": "No worker is alive",
    "broker": "The broker is away",
    "redis": "Redis is away",
    "cache": "The cache's store is away",
    "disk": "The disk is filling up",
    "database": "The database is away",
}
TONES = {"up": "good", "degraded": "warning", "down": "bad"}


def platform() -> Panel:
    services = health.readiness()["services"]
    problems = [_problem(name, services[name]) for name in TITLES if _is_wrong(services.get(name))]
    return Panel(problems=problems + _failed_jobs(), tables=[_table(services)])


def _is_wrong(service: dict[str, str] | None) -> bool:
    return service is not None and service["status"] in {"degraded", "down"}


def _problem(name: str, service: dict[str, str]) -> Problem:
    level = "bad" if service["status"] == "down" else "warning"
    remedy = doctor.remedy_of(name)
    detail = f"{service['detail']} {remedy.text}".strip()
    since = datetime.fromisoformat(service["since"])
    page = reverse(remedy.page or "console-health")
    return Problem(level, TITLES[name], detail, since, page, "Open the page that helps")


def _failed_jobs() -> list[Problem]:
    return [
        Problem(
            "warning",
            f"The last run of {run.job} failed",
            run.error.strip().splitlines()[-1][:200] if run.error.strip() else run.summary,
            since=run.finished_at,
            url=reverse("admin:core_maintenancerun_change", args=[run.pk]),
            action="Open the run",
        )
        for run in maintenance.latest().values()
        if run.status == MaintenanceRun.Status.FAILED
    ]


def _table(services: dict[str, dict[str, str]]) -> Table:
    return Table(
        "platform",
        "Platform",
        ["Part", "State", "Since", "Detail"],
        [
            [
                Cell(name.capitalize()),
                Cell(service["status"].capitalize(), tone=TONES.get(service["status"], "neutral")),
                Cell(moment=datetime.fromisoformat(service["since"])),
                Cell(service["detail"] or "–"),
            ]
            for name, service in services.items()
        ],
        empty="The probes have not run yet.",
        url=reverse("console-health"),
    )


dashboard.register("platform", platform, permission="core.view_maintenancerun", position=90)
