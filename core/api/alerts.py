"""GET /api/v1/alerts: what is wrong, and what was, for operators and for what watches the program."""

from datetime import datetime
from typing import Any

from django.utils.functional import SimpleLazyObject
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.viewsets import GenericViewSet

from core.api.audited import AuditedMixin
from core.api.filters import TruthFilter
from core.models import Alert, AlertSilence, Verb
from core.ops import clock
from core.ops.alerts import rules


class AlertSerializer(serializers.ModelSerializer):
    """Once that something was wrong. since: when it became true; resolved_at: null while it fires.

    value, limit: the latest figure and from where on it is wrong; for what has no figure 0, and what it should be.
    silenced_until: null unless nobody is told of it now. help: what to do; empty for alerts that there are no more.
    """

    silenced_until = serializers.SerializerMethodField()
    help = serializers.SerializerMethodField()

    class Meta:
        model = Alert
        fields = [
            "id",
            "name",
            "labels",
            "title",
            "severity",
            "value",
            "limit",
            "since",
            "fired_at",
            "resolved_at",
            "acknowledged_at",
            "acknowledged_by",
            "note",
            "silenced_until",
            "help",
        ]
        read_only_fields = fields

    def get_silenced_until(self, alert: Alert) -> datetime | None:
        silences: list[AlertSilence] = self.context["silences"] if alert.is_firing else []
        return max((silence.until for silence in silences if silence.covers(alert)), default=None)

    def get_help(self, alert: Alert) -> str:
        rule = rules.find(alert.name)
        return rule.help if rule else ""


class AlertFilters(filters.FilterSet):
    is_firing = TruthFilter(field_name="resolved_at", lookup_expr="isnull")

    class Meta:
        model = Alert
        fields = ["name", "severity"]


@extend_schema(tags=["operation"])
class AlertViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Alerts, the newest first. For operators, and for keys of theirs that read nothing but metrics."""

    queryset = Alert.objects.all()
    serializer_class = AlertSerializer
    filterset_class = AlertFilters
    read_verb = (Verb.OPERATE, Verb.METRICS)
    ordering = ("-id",)
    ordering_fields = {"created_at": "id"}
    search_fields = ("title",)

    def get_serializer_context(self) -> dict[str, Any]:
        silences = SimpleLazyObject(lambda: list(AlertSilence.objects.holding(clock.now())))
        return {**super().get_serializer_context(), "silences": silences}
