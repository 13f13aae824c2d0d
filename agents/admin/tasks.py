"""Tasks: the list that says what is wrong, and the page on which one can be watched."""

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedDropdownFilter

from agents.admin.advice import advice
from agents.admin.filters import AgeFilter, ErrorCodeFilter, KindFilter, TroubleFilter
from agents.engine import queue, submit
from agents.models import Agent, AgentTask, TaskEvent
from core.admin.base import ButtonsMixin, ReadOnlyMixin, VastListMixin, button, report
from core.exceptions import Refused
from core.formats import NOTHING, badge, duration, moment
from core.models import User

Status = AgentTask.Status

TONES = {
    Status.QUEUED: "neutral",
    Status.RUNNING: "busy",
    Status.WAITING_APPROVAL: "warning",
    Status.SUCCEEDED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "neutral",
    Status.EXPIRED: "bad",
}
# A list of a hundred tasks reads none of these long texts.
HEAVY_FIELDS = ("input", "result", "output", "receipt", "version__system_prompt", "version__options")
WHY_CHARACTERS = 120
TIMELINE_EVENTS = 200
NAMES_FOUND = 50  # agents and people that one search may stand for


def status_badge(task: AgentTask) -> SafeString:
    return badge(task.get_status_display(), TONES[Status(task.status)])


def may_retry(task: AgentTask) -> bool:
    """Retry is for tasks that ended without an answer."""
    return task.is_finished and task.status != Status.SUCCEEDED


@admin.register(AgentTask)
class AgentTaskAdmin(ReadOnlyMixin, VastListMixin, ButtonsMixin):
    list_display = ("state", "task", "why", "since", "waited", "took", "on_node", "owner")
    list_display_links = ("state", "task")
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        TroubleFilter,
        ErrorCodeFilter,
        ("agent", RelatedDropdownFilter),
        KindFilter,
        ("node", RelatedDropdownFilter),
        AgeFilter,
    )
    list_filter_submit = True
    search_fields = ("pk",)
    search_help_text = "A task's or session's id, or the name of an agent or person"
    list_select_related = ("agent", "version", "owner", "node")
    empty_hint = "Ask an agent something in the playground, or through the API; every question becomes a task here."
    ordering = ("-pk",)
    show_facets = admin.ShowFacets.NEVER

    actions = ("cancel_selected", "retry_selected", "run_selected_again")
    buttons = ("cancel", "to_front", "retry", "run_again")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AgentTask]:
        return super().get_queryset(request).defer(*HEAVY_FIELDS)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AgentTask], search_term: str
    ) -> tuple[QuerySet[AgentTask], bool]:
        """Find by what an index serves; a search inside of texts would read the whole table."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            wanted = Q(pk=uuid.UUID(term)) | Q(session=uuid.UUID(term))
        except ValueError:
            # Keys first: as one query, the database would sort everything that it finds.
            agents = Agent.objects.filter(name__istartswith=term).values_list("pk", flat=True)
            people = User.objects.filter(username__istartswith=term).values_list("pk", flat=True)
            wanted = Q(agent__in=list(agents[:NAMES_FOUND])) | Q(owner__in=list(people[:NAMES_FOUND]))
        return queryset.filter(wanted), False

    def has_run_permission(self, request: HttpRequest, obj: AgentTask | None = None) -> bool:
        """Who may submit tasks, which this admin has no form for."""
        return request.user.has_perm("agents.add_agenttask")

    # Columns

    @admin.display(description="Status", ordering="status")
    def state(self, task: AgentTask) -> SafeString:
        marks = [badge(text, "warning") for text, is_set in _marks(task) if is_set]
        return format_html("{} " * (1 + len(marks)), status_badge(task), *marks)

    @admin.display(description="Agent")
    def task(self, task: AgentTask) -> SafeString:
        return format_html(
            '<span class="c-strong">{} v{}</span> <span class="c-subtle c-mono">…{}</span>',
            task.agent.name,
            task.version.number,
            str(task.pk)[-6:],
        )

    @admin.display(description="Why")
    def why(self, task: AgentTask) -> str:
        text = reason(task)
        return text if len(text) <= WHY_CHARACTERS else text[:WHY_CHARACTERS] + "…"

    @admin.display(description="Since")
    def since(self, task: AgentTask) -> SafeString:
        return moment(state_began_at(task))

    @admin.display(description="Waited")
    def waited(self, task: AgentTask) -> str:
        return duration((task.started_at - task.created_at).total_seconds()) if task.started_at else NOTHING

    @admin.display(description="Took")
    def took(self, task: AgentTask) -> str:
        return duration((task.finished_at - task.created_at).total_seconds()) if task.finished_at else NOTHING

    @admin.display(description="Node", ordering="node")
    def on_node(self, task: AgentTask) -> str:
        return task.node.name if task.node else NOTHING

    # Actions on selected rows

    @admin.action(description="Cancel selected tasks", permissions=["change"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> None:
        done = [submit.cancel(task_id) for task_id in queryset.values_list("pk", flat=True)]
        skipped = done.count(False)
        report(
            request,
            done=done.count(True),
            verb="Cancelled",
            noun="task",
            skipped=skipped,
            why_skipped="already ended.",
        )

    @admin.action(description="Retry selected tasks", permissions=["change"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> None:
        """Submit again, for their owners, what ended without an answer."""
        self._submit_all(
            request,
            queryset,
            may_retry,
            lambda task: submit.resubmit(task, owner=task.owner),
            verb="Submitted again",
            why_not="only tasks that ended without an answer can be retried.",
        )

    @admin.action(description="Run selected tasks again as mine", permissions=["run"])
    def run_selected_again(self, request: HttpRequest, queryset: QuerySet[AgentTask]) -> None:
        """Ask the same of the agents' live versions, as tasks of the operator."""
        self._submit_all(
            request,
            queryset,
            lambda task: task.is_finished,
            lambda task: run_again(task, _person(request)),
            verb="Started",
            why_not="only finished tasks can be run again.",
        )

    def _submit_all(
        self,
        request: HttpRequest,
        queryset: QuerySet[AgentTask],
        may: Callable[[AgentTask], bool],
        do: Callable[[AgentTask], submit.Accepted],
        *,
        verb: str,
        why_not: str,
    ) -> None:
        done, refused, reasons = 0, 0, set()
        for task in queryset.defer(None).select_related("agent__live_version", "session", "owner"):
            if not may(task):
                refused += 1
                reasons.add(why_not)
                continue
            try:
                do(task)
                done += 1
            except Refused as refusal:
                refused += 1
                reasons.add(refusal.detail)
        report(request, done=done, verb=verb, noun="task", skipped=refused, why_skipped=" ".join(sorted(reasons)))

    # The page of one task

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        task = self.get_object(request, object_id)
        if task is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, task):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{task.agent.name} v{task.version.number}",
            "task": task,
            "original": task,
            "buttons": self.offered_buttons(request, task),
            **task_context(task),
        }
        return TemplateResponse(request, "console/task.html", context)

    def offers(self, name: str, obj: AgentTask) -> bool:
        waits = obj.status == Status.QUEUED and obj.priority != AgentTask.Priority.FRONT
        offered = {"cancel": not obj.is_finished, "retry": may_retry(obj), "run_again": obj.is_finished}
        return {**offered, "to_front": waits}[name]

    @button("Cancel", icon="stop_circle", permission="change", tone="danger")
    def cancel(self, request: HttpRequest, task: AgentTask) -> None:
        if submit.cancel(task.pk):
            messages.success(request, "Cancelled. Its runner lets go of the model within two seconds.")
        else:
            messages.warning(request, "The task had ended already; nothing changed.")

    @button("To the front", icon="vertical_align_top", permission="change")
    def to_front(self, request: HttpRequest, task: AgentTask) -> None:
        submit.prioritise(task.pk, AgentTask.Priority.FRONT)
        messages.success(request, "It goes before all others that wait for the model.")

    @button("Retry", icon="replay", permission="change", tone="primary")
    def retry(self, request: HttpRequest, task: AgentTask) -> HttpResponse:
        if not may_retry(task):
            messages.warning(request, "Only a task that ended without an answer can be retried; nothing changed.")
            return _to_page(task.pk)
        accepted = submit.resubmit(task, owner=task.owner)
        messages.success(request, "Submitted again for its owner. This is the new task.")
        return _to_page(accepted.task_id)

    @button("Run again", icon="play_arrow", permission="run")
    def run_again(self, request: HttpRequest, task: AgentTask) -> HttpResponse:
        accepted = run_again(task, _person(request))
        messages.success(request, "Asked the agent's live version the same, as a task of yours. This is it.")
        return _to_page(accepted.task_id)


def run_again(task: AgentTask, owner: User) -> submit.Accepted:
    """Ask the same of the agent's live version, apart from the owner's conversation."""
    return submit.submit(agent=task.agent, owner=owner, input=task.asked, starts_session=True, retry_of=task)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the console's pages are for people who signed in
    return request.user


def _to_page(task_id: object) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:agents_agenttask_change", args=[task_id]))


def _marks(task: AgentTask) -> list[tuple[str, bool]]:
    return [("Degraded", task.is_degraded), ("Truncated", task.is_truncated)]


def state_began_at(task: AgentTask) -> datetime | None:
    if task.is_finished:
        return task.finished_at
    return task.granted_at if task.status == Status.RUNNING else task.created_at


def reason(task: AgentTask) -> str:
    """Say in a line why a task stands where it does."""
    if task.error_code:
        return f"{task.error_code}: {task.error_detail}"
    if task.status == Status.QUEUED and task.run_after:
        tries = f"Tries again after {task.attempts} failed attempt{'' if task.attempts == 1 else 's'}"
        return f"{tries}, at {task.run_after:%H:%M:%S} UTC"
    if task.status == Status.QUEUED:
        return f"Waits for a slot of {task.model}"
    if task.status == Status.RUNNING and not task.runner:
        return "Has a slot; waits for a worker"
    if task.status == Status.RUNNING:
        return f"Answering with {task.model}" if task.first_output_at else f"Waits for {task.model}"
    return ""


# What the page of one task shows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of the timeline; pieces of text between two entries are counted, not listed."""

    number: str
    at: datetime | None
    after: str
    title: str
    detail: str
    tone: str


def task_context(task: AgentTask) -> dict[str, Any]:
    return {
        "status_badge": status_badge(task),
        "reason": reason(task),
        "since": state_began_at(task),
        "advice": advice(task.error_code) if task.status != Status.SUCCEEDED else "",
        "standing": queue.standing(task),
        "timeline": timeline(task),
        "phases": phases(task),
        "figures": figures(task),
        "input_text": _readable(task.asked),
        "output_text": _readable(task.output) if task.output is not None else "",
        "retries": task.retries.order_by("-pk").values_list("pk", "status")[:5],
        "events_url": f"/api/v1/tasks/{task.pk}/events",
    }


def _readable(value: Any) -> str:
    """Show what was asked or answered: a single text as it is, anything else as indented JSON."""
    if isinstance(value, dict) and len(value) == 1:
        (text,) = value.values()
        if isinstance(text, str):
            return text
    return json.dumps(value, indent=2, ensure_ascii=False)


def timeline(task: AgentTask) -> list[Entry]:
    """The task's events without their pieces of text, which the numbers between them count: numbers have no gaps."""
    rows = TaskEvent.objects.filter(task_id=task.pk).exclude(type=TaskEvent.Type.DELTA).order_by("number")
    entries: list[Entry] = []
    last = 0
    for event in rows[:TIMELINE_EVENTS]:
        entries += _pieces(last, event.number)
        entries.append(_entry(event, task))
        last = event.number
    return entries + _pieces(last, task.event_count + 1)


def _pieces(last: int, next_number: int) -> list[Entry]:
    count = next_number - last - 1
    if count <= 0:
        return []
    number = str(last + 1) if count == 1 else f"{last + 1}–{next_number - 1}"
    return [Entry(number, None, "", f"{count} piece{'' if count == 1 else 's'} of text", "", "text")]


def _entry(event: TaskEvent, task: AgentTask) -> Entry:
    data = json.loads(event.data)
    status = Status(data["status"])
    after = duration((event.created_at - task.created_at).total_seconds())
    title, detail = status.label, ""
    if event.type == TaskEvent.Type.ERROR:
        detail = f"{data.get('code', '')}: {data.get('detail', '')}"
    elif data.get("reset"):
        title, detail = "Back in the queue", f"{data.get('reason', '')} The text so far is void."
    elif status == Status.RUNNING:
        title, detail = "Got a slot", f"{data.get('model', '')} on {data.get('node', '')}"
    elif status == Status.QUEUED:
        title = "Accepted"
    return Entry(str(event.number), event.created_at, after, title, detail, TONES[status])


@dataclass(frozen=True)
class Phase:
    """A part of the wall time. percent: its share, for the bar; tone: the colour's number in console.css."""

    name: str
    seconds: float
    percent: str
    tone: int


def phases(task: AgentTask) -> list[Phase]:
    steps = (task.receipt or {}).get("phases", [])
    total = sum(step["seconds"] for step in steps) or 1
    return [
        Phase(step["name"], step["seconds"], f"{step['seconds'] / total * 100:.2f}", number)
        for number, step in enumerate(steps, start=1)
    ]


_FIGURES: Iterable[tuple[str, str, Callable[[Any], str]]] = (
    ("wall_seconds", "Wall time", duration),
    ("tokens_per_second", "Tokens per second", lambda value: f"{value:g}"),
    ("prompt_tokens", "Prompt tokens", lambda value: f"{value:,}"),
    ("output_tokens", "Output tokens", lambda value: f"{value:,}"),
    ("context_tokens", "Context window", lambda value: f"{value:,} tokens"),
    ("context_messages", "Messages sent", str),
    ("load_seconds", "Loading the model", duration),
    ("prompt_eval_seconds", "Reading the prompt", duration),
    ("eval_seconds", "Writing", duration),
    ("model_calls", "Model calls", str),
    ("repairs", "Repairs", str),
    ("attempts", "Attempts", str),
    ("interruptions", "Interruptions", str),
    ("cached", "From the cache", lambda value: "yes" if value else "no"),
    ("node", "Node", str),
    ("degraded_because", "Degraded because", str),
)


def figures(task: AgentTask) -> list[tuple[str, str]]:
    """The receipt's figures that are known, with their names for people."""
    receipt = task.receipt or {}
    return [(label, write(receipt[name])) for name, label, write in _FIGURES if receipt.get(name) is not None]
