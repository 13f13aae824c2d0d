"""Conversations, to be read."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter

from agents.engine.conversations import MESSAGES_SHOWN, latest_messages
from agents.models import AgentTask, ChatSession
from core.admin.base import ReadOnlyMixin, VastListMixin
from core.formats import badge, moment


@admin.register(ChatSession)
class ChatSessionAdmin(ReadOnlyMixin, VastListMixin):
    list_display = ("heading", "state", "agent", "owner", "active", "created")
    list_filter = (("agent", RelatedDropdownFilter), ("closed_at", admin.EmptyFieldListFilter))
    list_filter_submit = True
    search_fields = ("=owner__username", "=agent__name")
    search_help_text = "The name of an agent or person"
    list_select_related = ("agent", "owner")
    empty_hint = "Conversations begin in the playground, or when a program chats through the API."
    ordering = ("-pk",)

    def has_change_permission(self, request: HttpRequest, obj: ChatSession | None = None) -> bool:
        return False

    @admin.display(description="Conversation")
    def heading(self, session: ChatSession) -> str:
        return str(session)

    @admin.display(description="State")
    def state(self, session: ChatSession) -> SafeString:
        return badge("Closed") if session.closed_at else badge("Open", "good")

    @admin.display(description="Last active", ordering="last_active_at")
    def active(self, session: ChatSession) -> SafeString:
        return moment(session.last_active_at)

    @admin.display(description="Begun", ordering="created_at")
    def created(self, session: ChatSession) -> SafeString:
        return moment(session.created_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        session = self.get_object(request, object_id)
        if session is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, session):
            raise PermissionDenied
        turns = latest_messages(session)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(session),
            "session": session,
            "original": session,
            "turns": turns,
            "is_cut": len(turns) == MESSAGES_SHOWN,
            "unanswered": unanswered(session),
        }
        return TemplateResponse(request, "console/session.html", context)


def unanswered(session: ChatSession) -> int:
    return session.tasks.exclude(status=AgentTask.Status.SUCCEEDED).count()
