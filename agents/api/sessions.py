"""Conversations and what was said in them."""

from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from agents.api import answers, lookups, reach
from agents.api.schema import IDEMPOTENCY_KEY
from agents.engine import conversations
from agents.models import ChatMessage, ChatSession
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.filters import MomentFilter, TruthFilter
from core.api.idempotency import make_once
from core.api.serializers import NoInput, RowSerializer, StrictSerializer, TextField, shown
from core.models import Verb


class SessionInput(StrictSerializer):
    """A conversation to begin. agent: name or id; default: as for a chat message that names none."""

    agent = TextField(required=False, max_length=60)
    title = TextField(required=False, allow_blank=True, max_length=120)


class SessionSerializer(RowSerializer):
    """A conversation with one agent. closed_at: it takes no more messages since then; null while it is open."""

    agent = serializers.CharField(source="agent.name")
    agent_id = serializers.UUIDField()
    owner = serializers.CharField(source="owner.username")
    messages_url = serializers.SerializerMethodField()

    class Meta:
        model = ChatSession
        fields = [
            "id",
            "agent",
            "agent_id",
            "title",
            "owner",
            "messages_url",
            "created_at",
            "last_active_at",
            "closed_at",
        ]
        read_only_fields = fields

    def get_messages_url(self, session: ChatSession) -> str:
        return answers.address("session-message-list", session.pk)


class MessageSerializer(RowSerializer):
    """One message; task is the work that it asked for, or that wrote it."""

    task = serializers.UUIDField(source="task_id")

    class Meta:
        model = ChatMessage
        fields = ["id", "role", "content", "task", "created_at"]
        read_only_fields = fields


class SessionFilters(filters.FilterSet):
    agent = filters.CharFilter(method="of_agent", max_length=60, label="Name or id of an agent.")
    is_closed = TruthFilter(field_name="closed_at", lookup_expr="isnull", exclude=True)
    active_after = MomentFilter(field_name="last_active_at", lookup_expr="gte")

    def of_agent(self, sessions: QuerySet[ChatSession], _: str, name_or_id: str) -> QuerySet[ChatSession]:
        return sessions.filter(agent__in=lookups.agents_called(principal_of(self.request), name_or_id))


class SessionViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Conversations: your own; operators see everybody's."""

    write_verb = Verb.SUBMIT
    queryset = ChatSession.objects.all()
    serializer_class = SessionSerializer
    filterset_class = SessionFilters
    ordering = ("-id",)
    ordering_fields = {"created_at": "id", "last_active_at": "last_active_at"}
    search_fields = ("title", "messages__content")

    def get_queryset(self) -> QuerySet[ChatSession]:
        rows = reach.sessions(principal_of(self.request))
        return shown(rows, SessionSerializer) if self.action in {"list", "retrieve", "create"} else rows

    def get_serializer_class(self) -> Any:
        return {"create": SessionInput, "close": NoInput}.get(self.action, SessionSerializer)

    @extend_schema(request=SessionInput, parameters=[IDEMPOTENCY_KEY], responses={201: SessionSerializer})
    def create(self, request: Request) -> Response:
        """Begin a conversation without a message yet. (A chat message without a session begins one, too.)"""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        name, title = wanted.validated_data.get("agent"), wanted.validated_data.get("title", "")
        principal = principal_of(request)
        agent = lookups.agent(principal, name) if name else lookups.chat_agent(principal)
        made = make_once(
            request, lambda new_id: conversations.begin(agent, principal.user, title=title, session_id=new_id)
        )
        session = get_object_or_404(self.get_queryset(), pk=made.object_id)
        location = answers.address("session-detail", session.pk)
        return answers.created(SessionSerializer(session).data, location, is_replay=made.is_replay)

    @extend_schema(request=None, responses=SessionSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """Close a conversation for good; its messages stay to be read."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        session = self.get_object()
        conversations.close(session)
        return Response(SessionSerializer(session).data)


@extend_schema(parameters=[OpenApiParameter("session_pk", OpenApiTypes.UUID, OpenApiParameter.PATH)])
class MessageViewSet(AuditedMixin, mixins.ListModelMixin, GenericViewSet):
    """What was said in a conversation, the newest first; `ordering=created_at` for the oldest first."""

    queryset = ChatMessage.objects.all()
    serializer_class = MessageSerializer
    ordering = ("-id",)
    ordering_fields = {"created_at": "id"}
    search_fields = ("content",)

    def get_queryset(self) -> QuerySet[ChatMessage]:
        sessions = reach.sessions(principal_of(self.request))
        return ChatMessage.objects.filter(session=get_object_or_404(sessions, pk=self.kwargs["session_pk"]))
