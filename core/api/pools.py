"""GET /api/v1/pools: what calls and connections the processes of this group have, and who waits for one."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.models import Verb
from core.ops import pool_use


class ProcessUseSerializer(serializers.Serializer):
    """limit and utilisation: of calls, for the target that has most. pid: 0 where processes share no figures."""

    process = serializers.CharField()
    pid = serializers.IntegerField()
    limit = serializers.IntegerField()
    in_use = serializers.IntegerField()
    waiting = serializers.IntegerField()
    utilisation = serializers.FloatField(min_value=0)


class PoolUseSerializer(serializers.Serializer):
    """waits: how often somebody had to wait. utilisation: of the process in which it is fullest, from 0 to 1."""

    name = serializers.ChoiceField(pool_use.NAMES)
    utilisation = serializers.FloatField(min_value=0)
    connection_errors = serializers.IntegerField()
    waits = serializers.IntegerField()
    processes = ProcessUseSerializer(many=True)


class PoolsSerializer(serializers.Serializer):
    """Counts of all processes since they were started together, and the pools that they use."""

    http_requests = serializers.IntegerField()
    db_queries = serializers.IntegerField()
    redis_operations = serializers.IntegerField()
    connection_errors = serializers.IntegerField()
    pools = PoolUseSerializer(many=True)


class PoolsView(APIView):
    """For whoever may read the metrics: the figures are the same."""

    read_verb = Verb.METRICS

    @extend_schema(operation_id="pools", tags=["operation"], responses=PoolsSerializer)
    def get(self, request: Request) -> Response:
        """Tell how full the pools of all processes are, as of a second ago."""
        return Response(PoolsSerializer(pool_use.of_the_group()).data)
