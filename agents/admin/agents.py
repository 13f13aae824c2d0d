"""Agents: what they are told, in versions that never change, of which one is live."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from agents import kinds
from agents.models import Agent, AgentVersion, NodeModel
from core.admin.base import ButtonsMixin, report
from core.formats import badge, changed_lines
from core.models import User

VERSIONS_SHOWN = 50
LABELS = {
    "model": "Model",
    "system_prompt": "System prompt",
    "options": "Ollama options",
    "max_message_characters": "Longest message, in characters",
    "max_output_tokens": "Longest answer, in tokens",
    "deadline_seconds": "Deadline, in seconds",
    "truncation": "Conversations that do not fit",
    "allows_builtin_fallback": "The built-in model may stand in",
    "note": "Note",
}
CONTENT_FIELDS = tuple(LABELS)


class VersionForm(forms.ModelForm):
    """What a version holds. `Agent.add_version` writes it down."""

    class Meta:
        model = AgentVersion
        fields = CONTENT_FIELDS
        widgets = {
            "model": UnfoldAdminTextInputWidget(attrs={"list": "known-models"}),
            "system_prompt": UnfoldAdminTextareaWidget(attrs={"rows": 8}),
            "options": UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
            "max_message_characters": UnfoldAdminIntegerFieldWidget(),
            "max_output_tokens": UnfoldAdminIntegerFieldWidget(),
            "deadline_seconds": UnfoldAdminIntegerFieldWidget(),
            "truncation": UnfoldAdminSelectWidget(),
            "allows_builtin_fallback": UnfoldBooleanSwitchWidget(),
            "note": UnfoldAdminTextInputWidget(),
        }
        labels = LABELS
        help_texts = {
            "max_message_characters": "Longer messages are refused.",
            "max_output_tokens": "Empty: as long as the model likes.",
            "truncation": "What happens when a conversation is longer than the model's window.",
        }

    def content(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in CONTENT_FIELDS}


class AgentForm(forms.ModelForm):
    """A new agent's name and kind, which never change."""

    kind = forms.ChoiceField(choices=kinds.choices, widget=UnfoldAdminSelectWidget())

    class Meta:
        model = Agent
        fields = ("name", "kind", "description")
        widgets = {"name": UnfoldAdminTextInputWidget(), "description": UnfoldAdminTextInputWidget()}
        help_texts = {"name": "Letters, digits and hyphens; programs call the agent by it."}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Agent.objects.filter(team=self.instance.team, name=name).exists():
            raise forms.ValidationError("Your team has an agent of this name already.")
        return name


@admin.register(Agent)
class AgentAdmin(ButtonsMixin):
    list_display = ("name", "state", "kind", "live", "model", "description", "team")
    list_filter = ("is_enabled", "kind", "team")
    search_fields = ("name", "description")
    list_select_related = ("live_version", "team")

    empty_hint = "An agent is a model with instructions, under a name. Make one, then try it in the playground."

    fields = ("name", "kind", "description", "is_enabled")
    readonly_fields = ("name", "kind")
    change_form_outer_before_template = "console/agent.html"

    actions = ("enable_selected", "disable_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return super().get_queryset(request).defer("live_version__system_prompt")

    def has_delete_permission(self, request: HttpRequest, obj: Agent | None = None) -> bool:
        return False  # its tasks tell what it did; disable it instead

    def get_form(self, request: HttpRequest, obj: Agent | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, labels={"is_enabled": "Enabled"}, **kwargs)

    # Columns

    @admin.display(description="State", ordering="is_enabled")
    def state(self, agent: Agent) -> SafeString:
        if not agent.is_enabled:
            return badge("Disabled")
        return badge("Ready", "good") if agent.live_version_id else badge("No live version", "warning")

    @admin.display(description="Live version")
    def live(self, agent: Agent) -> str:
        return f"v{agent.live_version.number}" if agent.live_version else "–"

    @admin.display(description="Model")
    def model(self, agent: Agent) -> str:
        return _model_name(agent.live_version)

    # Actions

    @admin.action(description="Enable selected agents", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set_enabled(request, queryset, is_enabled=True)

    @admin.action(description="Disable selected agents", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set_enabled(request, queryset, is_enabled=False)

    def _set_enabled(self, request: HttpRequest, queryset: QuerySet[Agent], *, is_enabled: bool) -> None:
        verb = "enabled" if is_enabled else "disabled"
        total = queryset.count()
        done = queryset.exclude(is_enabled=is_enabled).update(is_enabled=is_enabled)
        report(
            request,
            done=done,
            verb=verb.capitalize(),
            noun="agent",
            skipped=total - done,
            why_skipped=f"{verb} already.",
        )

    # Pages

    def get_urls(self) -> list[URLPattern]:
        guarded = self.admin_site.admin_view
        return [
            path("<uuid:agent_id>/versions/new/", guarded(self.new_version), name="agents_agent_new_version"),
            path("<uuid:agent_id>/versions/<int:number>/", guarded(self.version_page), name="agents_agent_version"),
            path(
                "<uuid:agent_id>/versions/<int:number>/make-live/",
                guarded(self.make_live),
                name="agents_agent_make_live",
            ),
            *super().get_urls(),
        ]

    def page_context(self, request: HttpRequest, obj: Agent) -> dict[str, Any]:
        versions = obj.versions.select_related("created_by").defer("system_prompt", "options")
        return {
            "agent": obj,
            "state_badge": self.state(obj),
            "live": obj.live_version,
            "live_model": _model_name(obj.live_version),
            "versions": versions[:VERSIONS_SHOWN],
            "may_change": self.has_change_permission(request, obj),
            "may_run": request.user.has_perm("agents.add_agenttask"),
        }

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Make an agent with its first version, which is live at once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        assert isinstance(request.user, User)
        data = request.POST or None
        agent = Agent(owner=request.user, team=request.user.team)
        agent_form, version_form = AgentForm(data, instance=agent), VersionForm(data)
        if agent_form.is_valid() & version_form.is_valid():
            with transaction.atomic():
                agent_form.save()
                agent.make_live(agent.add_version(created_by=request.user, **version_form.content()))
                self.log_addition(request, agent, "Made with its first version.")
            messages.success(request, f"The agent {agent.name} is ready. Try it in the playground.")
            return _to_agent(agent)
        forms_shown = [("Agent", agent_form), ("First version", version_form)]
        return self._form_page(request, "New agent", forms_shown, save="Make agent")

    def new_version(self, request: HttpRequest, agent_id: Any) -> HttpResponse:
        """Write a new version, beginning from the live one."""
        agent = self._agent(request, agent_id, to_change=True)
        assert isinstance(request.user, User)
        if request.method == "POST":
            form = VersionForm(request.POST)
            if form.is_valid():
                with transaction.atomic():
                    self.remember(request, agent)
                    version = agent.add_version(created_by=request.user, **form.content())
                    if goes_live := "make_live" in request.POST:
                        agent.make_live(version)
                    self.log_change(request, agent, f"Wrote version {version.number}{', live' if goes_live else ''}.")
                messages.success(request, f"Wrote v{version.number}. {'It is' if goes_live else 'It is not'} live.")
                return _to_agent(agent)
        else:
            start = agent.live_version
            form = VersionForm(initial={name: getattr(start, name) for name in CONTENT_FIELDS[:-1]} if start else None)
        title = f"New version of {agent.name}"
        return self._form_page(request, title, [("", form)], agent=agent, save="Save", save_live="Save and make live")

    def version_page(self, request: HttpRequest, agent_id: Any, number: int) -> HttpResponse:
        """Show a version, and what sets it apart from another: ?against=, else the live one, else the one before."""
        agent = self._agent(request, agent_id)
        version = _version(agent, number)
        other = _other_version(agent, version, request.GET.get("against", ""))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{agent.name} v{version.number}",
            "agent": agent,
            "original": agent,
            "version": version,
            "is_live": version.pk == agent.live_version_id,
            "other": other,
            "numbers": agent.versions.exclude(pk=version.pk).values_list("number", flat=True)[:VERSIONS_SHOWN],
            "content": [(LABELS[name], _as_text(version, name)) for name in CONTENT_FIELDS],
            "changes": differences(other, version) if other else [],
            "may_change": self.has_change_permission(request, agent),
            "may_run": request.user.has_perm("agents.add_agenttask"),
        }
        return TemplateResponse(request, "console/version.html", context)

    def make_live(self, request: HttpRequest, agent_id: Any, number: int) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        agent = self._agent(request, agent_id, to_change=True)
        version = _version(agent, number)
        if version.pk == agent.live_version_id:
            messages.warning(request, f"v{number} is live already; nothing changed.")
        else:
            with transaction.atomic():
                self.remember(request, agent)
                agent.make_live(version)
                self.log_change(request, agent, f"Made version {number} live.")
            messages.success(request, f"v{number} is live: new tasks use it, running ones keep theirs.")
        return _to_agent(agent)

    def _agent(self, request: HttpRequest, agent_id: Any, *, to_change: bool = False) -> Agent:
        agent = self.get_object(request, str(agent_id))
        if agent is None:
            raise Http404("There is no such agent.")
        may = self.has_change_permission if to_change else self.has_view_permission
        if not may(request, agent):
            raise PermissionDenied
        return agent

    def _form_page(
        self,
        request: HttpRequest,
        title: str,
        forms_shown: Sequence[tuple[str, forms.BaseForm]],
        *,
        agent: Agent | None = None,
        save: str,
        save_live: str = "",
    ) -> HttpResponse:
        known = NodeModel.objects.filter(is_available=True).order_by("name").values_list("name", flat=True)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "agent": agent,
            "original": agent,
            "forms": forms_shown,
            "has_errors": any(form.errors for _, form in forms_shown),
            "known_models": known.distinct()[:200],
            "save": save,
            "save_live": save_live,
        }
        return TemplateResponse(request, "console/agent_form.html", context)


def _to_agent(agent: Agent) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:agents_agent_change", args=[agent.pk]))


def _model_name(version: AgentVersion | None) -> str:
    if version is None:
        return "–"
    return version.model or "any model"


def _version(agent: Agent, number: int) -> AgentVersion:
    found = agent.versions.select_related("created_by").filter(number=number).first()
    if found is None:
        raise Http404("There is no such version.")
    return found


def _other_version(agent: Agent, version: AgentVersion, against: str) -> AgentVersion | None:
    others = agent.versions.exclude(pk=version.pk)
    if against.isdecimal() and len(against) < 10:
        return others.filter(number=int(against)).first()
    live = agent.live_version
    return live if live and live != version else others.filter(number__lt=version.number).first()


# Differences between versions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """What changed in one field. lines: kind ("same", "added", "removed" or "skip") and text."""

    label: str
    lines: list[tuple[str, str]]


def differences(old: AgentVersion, new: AgentVersion) -> list[Difference]:
    """Compare two versions, field by field, line by line."""
    found = []
    for name in CONTENT_FIELDS:
        before, after = _as_text(old, name), _as_text(new, name)
        if before != after:
            found.append(Difference(LABELS[name], changed_lines(before, after)))
    return found


def _as_text(version: AgentVersion, name: str) -> str:
    value = getattr(version, name)
    if name == "options":
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    if name == "truncation":
        return str(version.get_truncation_display())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
