"""Nodes: which servers there are, how they are, what they have."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from agents.admin.panels import node_since, node_state
from agents.engine import discovery, registration
from agents.engine.operations import grant_waiting
from agents.engine.process import writer
from agents.models import AgentTask, Node
from core.admin import breakers
from core.admin.audited import outside_transaction
from core.admin.base import ButtonsMixin, button, report
from core.exceptions import InvalidInput, Refused
from core.formats import badge, moment
from core.models import CircuitBreaker
from core.ops import clock

breakers.pages[CircuitBreaker.Kind.NODE] = lambda breaker: reverse("admin:agents_node_change", args=[breaker.node.pk])

# Where a request keeps how the server at its address refused, see `NodeAdmin.changeform_view`.
REFUSAL = "_refusal_of_the_server"


class NodeForm(forms.ModelForm):
    """A node at an address where an Ollama server answers."""

    # How the server at a new or changed address refused, or did not answer.
    refusal: Refused | None = None

    # Not a URL field: that one refuses "gpu1", a good name in many networks.
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "http://127.0.0.1:11434", "spellcheck": "false"}),
        help_text="Of the Ollama server. It is asked who it is before anything is saved.",
    )

    class Meta:
        model = Node
        fields = (
            "name",
            "url",
            "slots",
            "max_loaded_models",
            "weight",
            "connect_timeout_seconds",
            "first_byte_timeout_seconds",
            "gap_timeout_seconds",
        )

    def clean_url(self) -> str:
        if self.refusal is not None:
            raise forms.ValidationError(self.refusal.detail) from self.refusal
        return registration.read_address(self.cleaned_data["url"])

    def clean_weight(self) -> float:
        return self.cleaned_data["weight"] or self.instance.weight

    def _post_clean(self) -> None:
        """Leave the address out of the model's own validation, which is a URL field's; ours came before."""
        address = self.cleaned_data.pop("url", None)
        super()._post_clean()  # type: ignore[misc]  # the stubs leave it out
        if address is not None:
            self.cleaned_data["url"] = self.instance.url = address

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if {"name", "url"} <= cleaned.keys():
            try:
                registration.check_free(Node(pk=self.instance.pk, name=cleaned["name"], url=cleaned["url"]))
            except InvalidInput as refusal:
                for field, texts in refusal.errors.items():
                    self.add_error(field, texts)
        return cleaned


class BuiltinNodeForm(forms.ModelForm):
    """The built-in node has no address, and nobody waits for it."""

    class Meta:
        model = Node
        fields = ("name", "slots")


@admin.register(Node)
class NodeAdmin(ButtonsMixin):
    list_display = ("name", "state", "since", "reason", "model_total", "loaded_total", "running", "slots", "probed")
    list_filter = (("status", ChoicesCheckboxFilter), "is_draining")
    search_fields = ("name", "url")
    list_select_related = ("breaker",)
    empty_hint = "A node is an Ollama server. Add one by its address; its models are read from it."
    ordering = ("kind", "name")

    form = NodeForm
    fieldsets = (
        (None, {"fields": ("name", "url", "slots", "max_loaded_models", "weight")}),
        (
            "Patience, in seconds",
            {"fields": ("connect_timeout_seconds", "first_byte_timeout_seconds", "gap_timeout_seconds")},
        ),
    )
    change_form_outer_before_template = "console/node.html"

    actions = ("probe_selected", "drain_selected", "resume_selected")
    buttons = ("probe", "drain", "resume")
    dangerous = ("delete",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        available = Q(places__is_available=True)
        busy = AgentTask.objects.running().filter(node_model__node=OuterRef("pk")).order_by()
        running = busy.values("node_model__node").annotate(total=Count("pk")).values("total")
        return (
            super()
            .get_queryset(request)
            .annotate(
                models_available=Count("places", filter=available),
                models_loaded=Count("places", filter=available & Q(places__is_loaded=True)),
                running_total=Coalesce(Subquery(running), 0),
            )
        )

    def get_form(self, request: HttpRequest, obj: Node | None = None, change: bool = False, **kwargs: Any) -> Any:
        if _is_builtin(obj):
            kwargs["form"] = BuiltinNodeForm
        made = super().get_form(request, obj, change, **kwargs)
        made.refusal = vars(request).get(REFUSAL)
        return made

    def get_fieldsets(self, request: HttpRequest, obj: Node | None = None) -> Any:
        return ((None, {"fields": ("name", "slots")}),) if _is_builtin(obj) else super().get_fieldsets(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        """Show the button only where `registration.remove` would not refuse."""
        if obj is not None:
            try:
                registration.check_removable(obj)
            except registration.NodeInUse:
                return False
        return super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: Node) -> None:
        registration.remove(obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # it would not look at what a node runs
        return actions

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Ask who is at a new address before the form's transaction begins: during it nobody else could write."""
        if request.method == "POST":
            vars(request)[REFUSAL] = self._refusal(request, object_id)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _refusal(self, request: HttpRequest, object_id: str | None) -> Refused | None:
        node = self.get_object(request, object_id) if object_id else Node()
        may_save = self.has_change_permission(request, node) if object_id else self.has_add_permission(request)
        if node is None or not may_save or node.is_builtin:
            return None  # nothing is asked: the form is not drawn, or has no address
        try:
            address = registration.read_address(NodeForm.base_fields["url"].clean(request.POST.get("url")))
            if address != node.url:
                registration.check_address(address)
        except forms.ValidationError:
            return None  # the form says so
        except Refused as refusal:
            return refusal
        return None

    def save_model(self, request: HttpRequest, obj: Node, form: forms.ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "url" in form.changed_data:
            transaction.on_commit(lambda: _probe(request, obj))  # takes seconds, see `changeform_view`
        if {"slots", "max_loaded_models"} & set(form.changed_data):
            _grant_what_waits(obj)

    def page_context(self, request: HttpRequest, obj: Node) -> dict[str, Any]:
        busy = AgentTask.objects.running().filter(node_model__node=obj).values_list("node_model")
        running = dict(busy.order_by().annotate(Count("pk")))
        models = list(obj.places.order_by("-is_available", "-is_loaded", "name"))
        return {
            "node": obj,
            "state_badge": self.state(obj),
            "since": node_since(obj),
            "reason": obj.breaker.why or obj.status_reason,
            "breaker_badge": breakers.state_badge(obj.breaker),
            "is_saturated": obj.saturated_until is not None and obj.saturated_until > clock.now(),
            "models": [(model, running.get(model.pk, 0)) for model in models],
        }

    def offers(self, name: str, obj: Node) -> bool:
        return {"probe": not obj.is_builtin, "drain": not obj.is_draining, "resume": obj.is_draining}[name]

    # Columns

    @admin.display(description="State", ordering="status")
    def state(self, node: Node) -> SafeString:
        return badge(*node_state(node))

    @admin.display(description="Since", ordering="status_since")
    def since(self, node: Node) -> SafeString:
        return moment(node_since(node))

    @admin.display(description="Why")
    def reason(self, node: Node) -> str:
        return node.breaker.why or node.status_reason or ("Answers from the handbook" if node.is_builtin else "")

    @admin.display(description="Models", ordering="models_available")
    def model_total(self, node: Node) -> int:
        return node.models_available  # type: ignore[attr-defined]

    @admin.display(description="Loaded", ordering="models_loaded")
    def loaded_total(self, node: Node) -> int:
        return node.models_loaded  # type: ignore[attr-defined]

    @admin.display(description="Running")
    def running(self, node: Node) -> int:
        return node.running_total  # type: ignore[attr-defined]

    @admin.display(description="Probed", ordering="probed_at")
    def probed(self, node: Node) -> SafeString:
        return moment(node.probed_at)

    # Buttons and actions

    @button("Probe now", icon="network_ping", permission="change", tone="primary")
    @outside_transaction
    def probe(self, request: HttpRequest, node: Node) -> None:
        _probe(request, node)

    @button("Drain", icon="pause_circle", permission="change")
    def drain(self, request: HttpRequest, node: Node) -> None:
        if drain(node):
            messages.success(request, f"{node.name} finishes what it runs and starts nothing new.")
        else:
            messages.info(request, f"{node.name} was draining already; nothing changed.")

    @button("Resume", icon="play_circle", permission="change", tone="primary")
    def resume(self, request: HttpRequest, node: Node) -> None:
        if resume(node):
            messages.success(request, f"{node.name} takes tasks again.")
        else:
            messages.info(request, f"{node.name} was not draining; nothing changed.")

    @admin.action(description="Probe selected nodes", permissions=["change"])
    @outside_transaction
    def probe_selected(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        for node in queryset:
            _probe(request, node)

    @admin.action(description="Drain selected nodes", permissions=["change"])
    def drain_selected(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        changed = [drain(node) for node in queryset]
        skipped = changed.count(False)
        report(
            request,
            done=changed.count(True),
            verb="Draining",
            noun="node",
            skipped=skipped,
            why_skipped="draining already.",
        )

    @admin.action(description="Resume selected nodes", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        changed = [resume(node) for node in queryset]
        skipped = changed.count(False)
        report(
            request,
            done=changed.count(True),
            verb="Resumed",
            noun="node",
            skipped=skipped,
            why_skipped="not draining.",
        )


def _is_builtin(node: Node | None) -> bool:
    return node is not None and node.is_builtin


def _probe(request: HttpRequest, node: Node) -> None:
    """Ask a node how it is and what it has, and tell the operator."""
    if discovery.refresh(node):
        found = node.places.filter(is_available=True).count()
        models = f"{found} model{'' if found == 1 else 's'}"
        messages.success(request, f"{node.name} answers: Ollama {node.server_version} with {models}.")
        node.breaker.refresh_from_db()
        if node.breaker.is_shut:
            messages.warning(request, f"It is given no tasks all the same: {node.breaker.why}")
    else:
        messages.error(request, f"{node.name} does not answer: {node.status_reason}")


def drain(node: Node) -> bool:
    """Have a node start nothing new; False if it drained already."""
    return bool(Node.objects.filter(pk=node.pk, is_draining=False).update(is_draining=True))


def resume(node: Node) -> bool:
    """Have a node take tasks again, those that wait first; False if it did not drain."""
    changed = bool(Node.objects.filter(pk=node.pk, is_draining=True).update(is_draining=False))
    if changed:
        _grant_what_waits(node)
    return changed


def _grant_what_waits(node: Node) -> None:
    for model in node.places.filter(is_available=True).values_list("name", flat=True):
        writer.call(grant_waiting, model)
