"""Agents and their versions: the team's to see, operators' to change."""

import uuid
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

from agents import kinds
from agents.api import answers, reach
from agents.api.schema import IDEMPOTENCY_KEY
from agents.models import Agent, AgentVersion
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.filters import TruthFilter
from core.api.idempotency import make_once
from core.api.serializers import NoInput, RowSerializer, StrictModelSerializer, shown
from core.exceptions import InvalidInput
from core.models import User


class VersionInput(StrictModelSerializer):
    """What an agent is told and allowed; every field has a default."""

    class Meta:
        model = AgentVersion
        fields = [
            "model",
            "system_prompt",
            "options",
            "max_message_characters",
            "max_output_tokens",
            "deadline_seconds",
            "truncation",
            "allows_builtin_fallback",
            "note",
        ]


class VersionSerializer(RowSerializer):
    """A version of an agent. Versions never change; a correction is a new one."""

    is_live = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.username")

    class Meta:
        model = AgentVersion
        fields = ["id", "number", "is_live", *VersionInput.Meta.fields, "created_by", "created_at"]
        read_only_fields = fields

    def get_is_live(self, version: AgentVersion) -> bool:
        return version.agent.live_version_id == version.pk


class AgentInput(StrictModelSerializer):
    """An agent to make. kind: what it can do. version: its first version, which goes live at once."""

    kind = serializers.ChoiceField(choices=kinds.choices())
    version = VersionInput(required=False)

    class Meta:
        model = Agent
        fields = ["name", "kind", "description", "is_enabled", "version"]


class AgentChange(StrictModelSerializer):
    """What of an agent may change; all else is a new version, or another agent."""

    class Meta:
        model = Agent
        fields = ["description", "is_enabled"]


class AgentSerializer(RowSerializer):
    """An agent. live_version: the number of the version that new tasks use."""

    live_version = serializers.IntegerField(source="live_version.number", default=None, allow_null=True)
    owner = serializers.CharField(source="owner.username")

    class Meta:
        model = Agent
        fields = ["id", "name", "kind", "description", "is_enabled", "live_version", "owner", "created_at"]
        read_only_fields = fields


class AgentFilters(filters.FilterSet):
    kind = filters.ChoiceFilter(choices=kinds.choices())
    name = filters.CharFilter(max_length=60)
    is_enabled = TruthFilter()


class AgentViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What answers here. Everybody of the team sees its agents; operators make and change them."""

    queryset = Agent.objects.all()
    serializer_class = AgentSerializer
    filterset_class = AgentFilters
    ordering = ("-id",)
    ordering_fields = {"name": "name", "created_at": "id"}
    search_fields = ("name", "description")

    def get_queryset(self) -> QuerySet[Agent]:
        rows = reach.agents(principal_of(self.request))
        return shown(rows, AgentSerializer) if self.action in {"list", "retrieve", "create"} else rows

    def get_serializer_class(self) -> Any:
        return {"create": AgentInput, "partial_update": AgentChange}.get(self.action, AgentSerializer)

    @extend_schema(request=AgentInput, parameters=[IDEMPOTENCY_KEY], responses={201: AgentSerializer})
    def create(self, request: Request) -> Response:
        """Make an agent in your team, with its first version."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        made = make_once(
            request, lambda agent_id: _create(principal_of(request).user, agent_id, dict(wanted.validated_data))
        )
        agent = get_object_or_404(self.get_queryset(), pk=made.object_id)
        location = answers.address("agent-detail", agent.pk)
        return answers.created(AgentSerializer(agent).data, location, is_replay=made.is_replay)

    @extend_schema(request=AgentChange, responses=AgentSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Describe, enable or disable an agent. Running tasks are left alone."""
        agent = self.get_object()
        wanted = self.get_serializer(agent, data=request.data, partial=True)
        wanted.is_valid(raise_exception=True)
        for name, value in wanted.validated_data.items():
            setattr(agent, name, value)
        agent.save(update_fields=list(wanted.validated_data))
        return Response(AgentSerializer(agent).data)


def _create(owner: User, agent_id: uuid.UUID, wanted: dict[str, Any]) -> None:
    content = wanted.pop("version", {})
    if Agent.objects.filter(team=owner.team_id, name=wanted["name"]).exists():
        raise InvalidInput({"name": ["Another agent of the team has this name."]})
    agent = Agent.objects.create(id=agent_id, owner=owner, team=owner.team, **wanted)
    agent.make_live(agent.add_version(created_by=owner, **content))


@extend_schema(parameters=[OpenApiParameter("agent_pk", OpenApiTypes.UUID, OpenApiParameter.PATH)])
class VersionViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """The versions of one agent, the newest first."""

    queryset = AgentVersion.objects.all()
    serializer_class = VersionSerializer
    lookup_field = "number"
    lookup_value_regex = "[0-9]{1,9}"
    ordering = ("-number",)
    ordering_fields = {"number": "number"}
    search_fields = ("model", "system_prompt", "note")

    def get_queryset(self) -> QuerySet[AgentVersion]:
        return AgentVersion.objects.filter(agent=self._agent()).select_related("agent", "created_by")

    def get_serializer_class(self) -> Any:
        return {"create": VersionInput, "make_live": NoInput}.get(self.action, VersionSerializer)

    def _agent(self) -> Agent:
        return get_object_or_404(reach.agents(principal_of(self.request)), pk=self.kwargs["agent_pk"])

    @extend_schema(request=VersionInput, parameters=[IDEMPOTENCY_KEY], responses={201: VersionSerializer})
    def create(self, request: Request, agent_pk: str) -> Response:
        """Write a new version down. It goes live only by make-live."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        agent = self._agent()
        content = {"created_by": principal_of(request).user, **wanted.validated_data}
        made = make_once(request, lambda version_id: agent.add_version(id=version_id, **content))
        version = get_object_or_404(self.get_queryset(), pk=made.object_id)
        location = answers.address("agent-version-detail", agent.pk, version.number)
        return answers.created(VersionSerializer(version).data, location, is_replay=made.is_replay)

    @extend_schema(request=None, responses=VersionSerializer)
    @action(detail=True, methods=["post"], url_path="make-live")
    def make_live(self, request: Request, agent_pk: str, number: str) -> Response:
        """Have new tasks use this version; running ones keep theirs."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        version = self.get_object()
        version.agent.make_live(version)
        return Response(VersionSerializer(version).data)
