"""Model servers, for operators."""

import uuid
from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from agents.api import answers
from agents.api.schema import IDEMPOTENCY_KEY
from agents.engine import discovery, registration
from agents.models import Node, NodeModel
from core import audit
from core.api.audited import AuditedMixin
from core.api.filters import TruthFilter
from core.api.idempotency import made_before, make_once
from core.api.serializers import NoInput, RowSerializer, StrictModelSerializer, TextField
from core.models import CircuitBreaker, Verb


class NodeChange(StrictModelSerializer):
    """What of a node may change. is_draining: finish what runs, start nothing new.

    max_loaded_models: how many models its memory holds at a time; null: unknown. weight: of nodes that would be
    equally quick, the one with the greater weight is taken.
    """

    class Meta:
        model = Node
        fields = [
            "is_draining",
            "slots",
            "max_loaded_models",
            "weight",
            "connect_timeout_seconds",
            "first_byte_timeout_seconds",
            "gap_timeout_seconds",
        ]


class NodeInput(NodeChange):
    """A server to make known. url: its address; "gpu1" is read as http://gpu1:11434."""

    name = TextField(max_length=60, trim_whitespace=True)
    url = TextField(max_length=300)

    class Meta(NodeChange.Meta):
        fields = ["name", "url", *NodeChange.Meta.fields]


class NodeSerializer(RowSerializer):
    """A model server. The built-in has no url.

    status: whether it could be reached when it was asked last; status_since and status_reason tell since when, and
    why not. breaker_state: whether it is given tasks, which it is while its circuit breaker is closed.
    saturated_until: its queue was full; until then other nodes are preferred.
    """

    url = serializers.CharField()
    breaker = serializers.CharField(source="breaker.name")
    breaker_state = serializers.ChoiceField(choices=CircuitBreaker.State.choices, source="breaker.state_that_holds")
    models_url = serializers.SerializerMethodField()

    class Meta:
        model = Node
        fields = [
            "id",
            "name",
            "kind",
            "url",
            *NodeChange.Meta.fields,
            "status",
            "status_reason",
            "status_since",
            "breaker",
            "breaker_state",
            "saturated_until",
            "probed_at",
            "server_version",
            "models_url",
            "created_at",
        ]
        read_only_fields = fields

    def get_models_url(self, node: Node) -> str:
        return answers.address("node-model-list", node.pk)


class NodeModelSerializer(RowSerializer):
    """A model on a node. is_available: the node had it at the last probe. is_loaded: it is in memory.

    service_seconds: how long its latest tasks held their slots, on average; null: none was measured.
    pinned_context_tokens: the window that every call gets, as operators chose it; null: the agent's own, or Ollama's.
    """

    class Meta:
        model = NodeModel
        fields = [
            "name",
            "is_available",
            "digest",
            "size_bytes",
            "family",
            "parameter_size",
            "quantization",
            "capabilities",
            "is_loaded",
            "loaded_context_tokens",
            "pinned_context_tokens",
            "loaded_until",
            "vram_bytes",
            "service_seconds",
            "seen_at",
        ]
        read_only_fields = fields


class NodeFilters(filters.FilterSet):
    status = filters.ChoiceFilter(choices=Node.Status.choices)
    kind = filters.ChoiceFilter(choices=Node.Kind.choices)
    is_draining = TruthFilter()


class NodeViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """The servers that run models. For operators."""

    queryset = Node.objects.select_related("breaker")
    serializer_class = NodeSerializer
    read_verb = Verb.OPERATE
    outside_transaction = frozenset({"create", "probe"})
    filterset_class = NodeFilters
    ordering = ("-id",)
    ordering_fields = {"name": "name", "created_at": "id"}
    search_fields = ("name", "url", "places__name")

    def get_serializer_class(self) -> Any:
        by_action = {"create": NodeInput, "partial_update": NodeChange, "probe": NoInput}
        return by_action.get(self.action, NodeSerializer)

    @extend_schema(request=NodeInput, parameters=[IDEMPOTENCY_KEY], responses={201: NodeSerializer})
    def create(self, request: Request) -> Response:
        """Make an Ollama server known. It must answer: nothing is written before it did."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        made = made_before(request)
        if made is None:
            node = Node(**wanted.validated_data)
            node.url = registration.check_address(node.url)
            made = make_once(request, lambda node_id: _save(node, node_id))
        found = get_object_or_404(Node, pk=made.object_id)
        if not made.is_replay:
            discovery.refresh(found)
            found.refresh_from_db()
        location = answers.address("node-detail", found.pk)
        return answers.created(NodeSerializer(found).data, location, is_replay=made.is_replay)

    @extend_schema(request=NodeChange, responses=NodeSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Drain or resume a node, or change its slots and its patience. Waiting tasks start within a second."""
        node = self.get_object()
        wanted = self.get_serializer(node, data=request.data, partial=True)
        wanted.is_valid(raise_exception=True)
        for name, value in wanted.validated_data.items():
            setattr(node, name, value)
        node.save(update_fields=list(wanted.validated_data))
        return Response(NodeSerializer(node).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Forget a node that runs nothing (409 while it does)."""
        registration.remove(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=NodeSerializer)
    @action(detail=True, methods=["post"])
    def probe(self, request: Request, pk: str) -> Response:
        """Ask a node now how it is and what it has. One that does not answer is reported as down, with the reason."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        node = self.get_object()
        discovery.refresh(node)
        node.refresh_from_db()
        return Response(NodeSerializer(node).data)


def _save(node: Node, node_id: uuid.UUID) -> None:
    node.pk = node_id
    registration.check_free(node)
    node.save(force_insert=True)
    audit.record("node.added", target=node, after=node)


class NodeModelFilters(filters.FilterSet):
    is_available = TruthFilter()
    is_loaded = TruthFilter()


@extend_schema(parameters=[OpenApiParameter("node_pk", OpenApiTypes.UUID, OpenApiParameter.PATH)])
class NodeModelViewSet(AuditedMixin, mixins.ListModelMixin, GenericViewSet):
    """The models that a node has, or had."""

    queryset = NodeModel.objects.all()
    serializer_class = NodeModelSerializer
    read_verb = Verb.OPERATE
    filterset_class = NodeModelFilters
    ordering = ("name",)
    ordering_fields = {"name": "name", "size_bytes": "size_bytes"}
    search_fields = ("name", "family")

    def get_queryset(self) -> QuerySet[NodeModel]:
        return NodeModel.objects.filter(node=get_object_or_404(Node, pk=self.kwargs["node_pk"]))
