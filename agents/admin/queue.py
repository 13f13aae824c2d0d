"""The queues: who waits for which model, in which order; and moving or cancelling what waits."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from agents.admin.panels import node_state
from agents.engine import queue, submit
from agents.engine.errors import AlreadyFinished
from agents.engine.queue import Entry, ModelQueue, PlaceState
from agents.models import AgentTask
from core import audit
from core.admin.dashboard import REFRESH_SECONDS
from core.exceptions import Refused
from core.formats import badge
from core.ops import clock

Priority = AgentTask.Priority

TASKS_SHOWN = 25
TONES = {
    Priority.FRONT: "warning",
    Priority.INTERACTIVE: "good",
    Priority.NORMAL: "busy",
    Priority.BACKGROUND: "neutral",
}


@dataclass(frozen=True)
class Move:
    """Something to do with a task that waits. verb: what the audit log calls it."""

    label: str
    icon: str
    verb: str
    act: Callable[[uuid.UUID], None]
    done: str


def _cancel(task_id: uuid.UUID) -> None:
    if not submit.cancel(task_id):
        raise AlreadyFinished


def _into(priority: Priority, label: str, icon: str, done: str) -> Move:
    return Move(label, icon, "priority", lambda task_id: submit.prioritise(task_id, priority), done)


# By the names that the form sends.
MOVES = {
    "front": _into(Priority.FRONT, "To the front", "vertical_align_top", "goes before all others now."),
    "interactive": _into(Priority.INTERACTIVE, "Interactive", "person", "waits among interactive tasks now."),
    "normal": _into(Priority.NORMAL, "Normal", "drag_handle", "waits among normal tasks now."),
    "background": _into(Priority.BACKGROUND, "Background", "vertical_align_bottom", "waits in the background now."),
    "cancel": Move("Cancel", "stop_circle", "cancel", _cancel, "was cancelled."),
}


def page(request: HttpRequest) -> HttpResponse:
    """Show the queues; by POST, do what was chosen for a task that waits."""
    if not request.user.has_perm("agents.view_agenttask"):
        raise PermissionDenied
    may_change = request.user.has_perm("agents.change_agenttask")
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        _move(request)
        return HttpResponseRedirect(reverse("console-queue"))
    found = queue.overview(tasks=TASKS_SHOWN)
    context = {
        **admin.site.each_context(request),
        "title": "Queue",
        "queues": [_shown(item) for item in found if item.waiting or item.running],
        "idle": [item.model for item in found if not item.waiting and not item.running],
        "moves": MOVES,
        "may_change": may_change,
        "at": clock.now(),
        "refresh_seconds": REFRESH_SECONDS,
        "tasks_page": reverse("admin:agents_agenttask_changelist"),
    }
    return TemplateResponse(request, "console/queue.html", context)


def _move(request: HttpRequest) -> None:
    move = MOVES.get(request.POST.get("do", ""))
    try:
        task_id = uuid.UUID(request.POST.get("task", ""))
    except ValueError:
        move = None
    if move is None:
        messages.error(request, "The form was not understood; nothing changed.")
        return
    task = get_object_or_404(AgentTask.objects.defer("input", "result", "output", "receipt"), pk=task_id)
    before = audit.snapshot(task)
    try:
        with transaction.atomic():
            move.act(task.pk)
            audit.record(f"agent-task.{move.verb}", target=task, before=before, after=audit.stored(task))
    except Refused as refusal:
        messages.warning(request, f"{refusal.detail}. Nothing changed.")
    else:
        messages.success(request, f"The task …{str(task.pk)[-6:]} {move.done}")


@dataclass(frozen=True)
class _Place:
    state: PlaceState
    badge: SafeString


@dataclass(frozen=True)
class _Task:
    entry: Entry
    badge: SafeString
    moved_up: bool
    seconds: float

    @property
    def name(self) -> str:
        """The end of its key, as lists of tasks show it."""
        return str(self.entry.task.pk)[-6:]


@dataclass(frozen=True)
class _Queue:
    """A model's queue, dressed for the page. more: how many wait besides those that are shown."""

    queue: ModelQueue
    places: list[_Place]
    tasks: list[_Task]
    more: int


def _shown(found: ModelQueue) -> _Queue:
    places = [_Place(state, badge(*node_state(state.place.node))) for state in found.places]
    return _Queue(found, places, [_task(entry) for entry in found.tasks], found.waiting - len(found.tasks))


def _task(entry: Entry) -> _Task:
    priority = entry.standing.priority
    seconds = (clock.now() - entry.standing.since).total_seconds()
    return _Task(entry, badge(priority.label, TONES[priority]), priority != entry.task.priority, seconds)
