"""Models on nodes: what there is, what is in memory, and how large a window each gets."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from agents.models import NodeModel
from core.admin.audited import AuditedAdmin
from core.formats import badge, duration, moment, number, size


class PlaceForm(forms.ModelForm):
    class Meta:
        model = NodeModel
        fields = ("pinned_context_tokens",)
        labels = {"pinned_context_tokens": "Pinned window, in tokens"}


@admin.register(NodeModel)
class NodeModelAdmin(AuditedAdmin):
    """They come and go with what the nodes tell; people choose the window alone."""

    list_display = ("name", "node", "state", "size", "task_takes", "window", "pinned", "seen")
    list_filter = ("node", "is_loaded", "is_available")
    search_fields = ("name", "node__name", "family")
    list_select_related = ("node",)
    ordering = ("-is_available", "name", "node__name")
    empty_hint = "Models are read from the nodes. Add a node, or pull a model on one and probe it."
    form = PlaceForm
    fields = ("name", "node", "state", "window", "pinned_context_tokens")
    readonly_fields = ("name", "node", "state", "window")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: NodeModel | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or not obj.node.is_builtin)

    @admin.display(description="State", ordering="is_loaded")
    def state(self, place: NodeModel) -> SafeString:
        if not place.is_available:
            return badge("Gone", "bad")
        return badge("Loaded", "good") if place.is_loaded else badge("On disk")

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, place: NodeModel) -> str:
        return size(place.size_bytes)

    @admin.display(description="A task takes", ordering="service_seconds")
    def task_takes(self, place: NodeModel) -> str:
        return duration(place.service_seconds)

    @admin.display(description="Window loaded", ordering="loaded_context_tokens")
    def window(self, place: NodeModel) -> str:
        return f"{number(place.loaded_context_tokens)} tokens" if place.loaded_context_tokens else "–"

    @admin.display(description="Window pinned", ordering="pinned_context_tokens")
    def pinned(self, place: NodeModel) -> str:
        return f"{number(place.pinned_context_tokens)} tokens" if place.pinned_context_tokens else "–"

    @admin.display(description="Seen", ordering="seen_at")
    def seen(self, place: NodeModel) -> SafeString:
        return moment(place.seen_at)
