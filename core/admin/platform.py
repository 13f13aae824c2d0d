"""The platform's part of the dashboard: the parts that everything depends on, and housekeeping that failed."""

from datetime import datetime

from django.urls import reverse

from core.admin import dashboard
from core.admin.dashboard import Cell, Panel, Problem, Table
from core.models import MaintenanceRun
from core.ops import health

TITLES = {
    "workers": "No worker is alive",
    "broker": "The broker is away",
    "redis": "Redis is away",
    "cache": "The cache's store is away",
    "disk": "The disk is filling up",
    "database": "The database is away",
}
HELP = {
    "workers": "Tasks are accepted and wait. Start a worker; `manage.py up` starts one.",
    "broker": "Tasks still run, later than usual, until it is back.",
    "redis": "Answers still stream, a little later than usual, until it is back.",
    "cache": "Each process remembers answers for itself. What is invalidated holds everywhere as soon as it is back.",
}
TONES = {"up": "good", "degraded": "warning", "down": "bad"}
LOOK_BACK = 100  # runs; each job's latest is among them


def platform() -> Panel:
    services = health.readiness()["services"]
    problems = [_problem(name, services[name]) for name in TITLES if _is_wrong(services.get(name))]
    return Panel(problems=problems + _failed_jobs(), tables=[_table(services)])


def _is_wrong(service: dict[str, str] | None) -> bool:
    return service is not None and service["status"] in {"degraded", "down"}


def _problem(name: str, service: dict[str, str]) -> Problem:
    level = "bad" if service["status"] == "down" else "warning"
    detail = HELP.get(name) or service["detail"]
    return Problem(level, TITLES[name], detail, since=datetime.fromisoformat(service["since"]))


def _failed_jobs() -> list[Problem]:
    latest: dict[str, MaintenanceRun] = {}
    for run in MaintenanceRun.objects.order_by("-pk")[:LOOK_BACK]:
        latest.setdefault(run.job, run)
    return [
        Problem(
            "warning",
            f"The last run of {run.job} failed",
            run.error.strip().splitlines()[-1][:200] if run.error.strip() else run.summary,
            since=run.finished_at,
            url=reverse("admin:core_maintenancerun_change", args=[run.pk]),
            action="Open the run",
        )
        for run in latest.values()
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
    )


dashboard.register("platform", platform, permission="core.view_maintenancerun", position=90)
