"""Circuit breakers: their state for operators and for what watches the program, and their handles for operators."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from core.access.permissions import MayDoIt, SignedInRecently
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.serializers import RowSerializer, StrictSerializer, TextField, WholeNumberField
from core.models import CircuitBreaker, CircuitBreakerChange, Verb
from core.net import breakers

CHANGES_SHOWN = 10
MAX_REASON = 300


class ReasonInput(StrictSerializer):
    """reason: for the history and the audit log."""

    reason = TextField(max_length=MAX_REASON, required=False, allow_blank=True, default="")


class HoldInput(StrictSerializer):
    """How to hold a breaker. minutes: how long; without them, until it is reset."""

    state = serializers.ChoiceField(choices=[item.value for item in breakers.HOLDS])
    reason = TextField(max_length=MAX_REASON)
    minutes = WholeNumberField(
        min_value=1, max_value=breakers.MAX_HOLD_MINUTES, required=False, allow_null=True, default=None
    )


class ChangeSerializer(RowSerializer):
    """A step in a breaker's history. by: empty where it happened by itself."""

    class Meta:
        model = CircuitBreakerChange
        fields = ["what", "at", "reason", "by"]
        read_only_fields = fields


class BreakerSerializer(RowSerializer):
    """A breaker. state: the one that holds. since: when it left the plainly closed state, or came into it.

    failures: in a row, while it was closed; failed_probes: since it opened. held: "none", or how an operator holds it.
    """

    state = serializers.ChoiceField(choices=CircuitBreaker.State.choices, source="state_that_holds")
    since = serializers.SerializerMethodField()
    reason = serializers.CharField(source="why")
    held = serializers.ChoiceField(choices=CircuitBreaker.Forced.choices, source="forced")
    held_by = serializers.CharField(source="forced_by")
    held_until = serializers.DateTimeField(source="forced_until", allow_null=True)
    next_probe_at = serializers.DateTimeField(source="probe_at", allow_null=True)
    changes = ChangeSerializer(many=True, source="latest")

    class Meta:
        model = CircuitBreaker
        fields = [
            "name",
            "kind",
            "state",
            "since",
            "reason",
            "failures",
            "failed_at",
            "opened_at",
            "failed_probes",
            "next_probe_at",
            "held",
            "held_by",
            "held_until",
            "changes",
        ]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.DATETIME)
    def get_since(self, breaker: CircuitBreaker) -> Any:
        return self.fields["opened_at"].to_representation(breaker.troubled_since or breaker.since)


class StatusSerializer(serializers.Serializer):
    breakers = BreakerSerializer(many=True)


@extend_schema(tags=["circuit-breaker"])
class BreakerViewSet(AuditedMixin, GenericViewSet):
    """Circuit breakers. Their state may be read by operators, and by keys of theirs that read nothing but metrics."""

    queryset = CircuitBreaker.objects.all()
    serializer_class = BreakerSerializer
    read_verb = (Verb.OPERATE, Verb.METRICS)
    pagination_class = None
    filter_backends = ()
    lookup_field = "name"
    lookup_value_regex = r"[^\x00]+"  # nodes have any names

    def get_queryset(self) -> QuerySet[CircuitBreaker]:
        latest = CircuitBreakerChange.objects.order_by("-pk")[:CHANGES_SHOWN]
        return CircuitBreaker.objects.prefetch_related(Prefetch("changes", latest, to_attr="latest"))

    def get_permissions(self) -> list[Any]:
        dangerous = [SignedInRecently()] if self.action in {"trip", "hold"} else []
        return [MayDoIt(), *dangerous]

    def get_serializer_class(self) -> Any:
        by_action = {"reset": ReasonInput, "trip": ReasonInput, "hold": HoldInput}
        return by_action.get(self.action, BreakerSerializer)

    @extend_schema(responses=StatusSerializer)
    @action(detail=False)
    def status(self, request: Request) -> Response:
        """Tell how every breaker is: what is wrong, why, and since when."""
        return Response(StatusSerializer({"breakers": self.get_queryset()}).data)

    @extend_schema(request=ReasonInput, responses=BreakerSerializer)
    @action(detail=True, methods=["post"])
    def reset(self, request: Request, name: str) -> Response:
        """Close a breaker, end its hold and forget its failures, as if nothing had been wrong."""
        breaker, wanted = self._asked(request)
        breakers.reset(breaker.pk, by=principal_of(request).user, **wanted)
        return self._shown(breaker)

    @extend_schema(request=ReasonInput, responses=BreakerSerializer)
    @action(detail=True, methods=["post"])
    def trip(self, request: Request, name: str) -> Response:
        """Open a breaker, for a minute at least; then a probe decides."""
        breaker, wanted = self._asked(request)
        breakers.trip(breaker.pk, by=principal_of(request).user, **wanted)
        return self._shown(breaker)

    @extend_schema(request=HoldInput, responses=BreakerSerializer)
    @action(detail=True, methods=["post"])
    def hold(self, request: Request, name: str) -> Response:
        """Keep a breaker open, or closed, whatever calls and probes say; until the minutes are over, or a reset."""
        breaker, wanted = self._asked(request)
        forced = CircuitBreaker.Forced(wanted.pop("state"))
        breakers.hold(breaker.pk, forced, by=principal_of(request).user, **wanted)
        return self._shown(breaker)

    def _asked(self, request: Request) -> tuple[CircuitBreaker, dict[str, Any]]:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return self.get_object(), dict(wanted.validated_data)

    def _shown(self, breaker: CircuitBreaker) -> Response:
        return Response(BreakerSerializer(self.get_queryset().get(pk=breaker.pk)).data)
