"""GET /api/v1/limits: what the caller may use, and did."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.access.limits import usage
from core.access.limits.allowances import levels
from core.access.limits.subjects import subjects_of
from core.access.principal import principal_of


class GaugeSerializer(serializers.Serializer):
    """limit: null for none. used: null where nobody counts. resets_in_seconds: null where time frees nothing."""

    limit = serializers.IntegerField(allow_null=True)
    used = serializers.IntegerField(allow_null=True)
    remaining = serializers.IntegerField(allow_null=True)
    resets_in_seconds = serializers.IntegerField(allow_null=True)


class UsageSerializer(serializers.Serializer):
    """The limits of the API key that asks, of its user, or of the user's team. Each of them holds.

    queue_share: the weight in the queues, of users within their team and of teams; null for keys.
    """

    level = serializers.ChoiceField(["key", "user", "team"], source="subject.kind")
    requests_per_minute = GaugeSerializer()
    tokens_per_day = GaugeSerializer()
    tokens_per_month = GaugeSerializer()
    concurrent_tasks = GaugeSerializer()
    queue_share = serializers.FloatField(allow_null=True)


class LimitsSerializer(serializers.Serializer):
    limits = UsageSerializer(many=True)


class LimitsView(APIView):
    """Your own limits, and how much of them is used."""

    @extend_schema(operation_id="limits", tags=["limits"], responses=LimitsSerializer)
    def get(self, request: Request) -> Response:
        """Tell what the caller, the caller's key and team may use, and what they used."""
        principal = principal_of(request)
        mine = levels(subjects_of(principal.user, principal.api_key))
        return Response(LimitsSerializer({"limits": usage.of(mine)}).data)
