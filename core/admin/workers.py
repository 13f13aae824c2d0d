"""Which processes serve, what each does now, and what to do where one was lost."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from core.admin import dashboard
from core.admin.dashboard import Panel, Problem
from core.formats import badge
from core.models import Process
from core.ops import group
from core.ops.group import Member, State, Work

PERMISSION = "core.view_maintenancerun"
WORK_SHOWN = 5

Role = Process.Role

TONES = {State.ALIVE: "good", State.SILENT: "bad", State.DEAD: "bad"}
WHAT = {
    Role.WEB: ("Web", "answers requests, and runs the calls of Ollama’s and OpenAI’s clients"),
    Role.WORKER: ("Workers", "run tasks and maintenance jobs"),
    Role.BEAT: ("Scheduler", "sends what is due by the schedules"),
}
NONE_ALIVE = {
    Role.WEB: "No web process has told of itself yet. Each does so within seconds of its start.",
    Role.WORKER: "No worker is alive: tasks are accepted and wait. Start one here with manage.py up, or on another"
    " machine that reaches the database and the broker.",
    Role.BEAT: "No scheduler is alive: no job runs by itself, backups among them. manage.py up starts one.",
}
ADVICE = {
    State.DEAD: "It ended without a word: it crashed or was killed, perhaps for want of memory. What it ran went to"
    " others at once. manage.py up starts another one by itself; where none comes, start it, and read the end of the"
    " log.",
    State.SILENT: "Its machine is off or cut off from the database, or it hangs. What it ran goes to others within"
    f" {settings.LEASE_SECONDS:g} s. Look at that machine, and start it again there. After a day it is forgotten.",
}
OTHER_VERSION = "It is of another version than this page. Restart it, so that all are the same."


@dataclass(frozen=True)
class _Row:
    """A process, as the page draws it. work: the first of what it does, with the addresses of their pages."""

    member: Member
    badge: SafeString
    work: list[tuple[Work, str]]
    more: int
    advice: str


@dataclass(frozen=True)
class _Section:
    title: str
    what: str
    rows: list[_Row]
    lack: str


@permission_required(PERMISSION, raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    found = group.members()
    context = {
        **admin.site.each_context(request),
        "title": "Workers",
        "sections": [_section(role, [member for member in found if member.process.role == role]) for role in Role],
    }
    return TemplateResponse(request, "console/workers.html", context)


def _section(role: "Process.Role", members: list[Member]) -> _Section:
    title, what = WHAT[role]
    return _Section(title, what, [_row(member) for member in members], "" if _lives(members) else NONE_ALIVE[role])


def _lives(members: Iterable[Member]) -> bool:
    return any(member.state == State.ALIVE for member in members)


def _row(member: Member) -> _Row:
    shown = [(work, reverse(work.page, args=[work.id])) for work in member.work[:WORK_SHOWN]]
    state = badge(member.state.capitalize(), TONES[member.state])
    return _Row(member, state, shown, len(member.work) - len(shown), _advice(member))


def _advice(member: Member) -> str:
    if member.state in ADVICE:
        return ADVICE[member.state]
    return OTHER_VERSION if member.process.version != settings.VERSION else ""


def problems() -> Panel:
    """What the dashboard says of lost processes. That no worker is left stands among the platform's problems."""
    url, action = reverse("console-workers"), "Open the workers"
    members = group.known()
    beats = [member for member in members if member.process.role == Role.BEAT]
    found = [
        Problem(
            "warning",
            f"A {member.process.get_role_display().lower()} process on {member.host} is not heard of",
            _advice(member),
            member.last_heard_at,
            url,
            action,
        )
        for member in members
        if member.state != State.ALIVE
    ]
    if beats and not _lives(beats):
        found.append(Problem("bad", "No scheduler is alive", NONE_ALIVE[Role.BEAT], None, url, action))
    return Panel(problems=found)


dashboard.register("workers", problems, permission=PERMISSION, position=92)
