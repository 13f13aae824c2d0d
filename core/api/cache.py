"""The response cache, for operators: figures, and ways to have it forget."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.api.serializers import NoInput, StrictSerializer, TextField
from core.cache import steering
from core.cache.entries import MAX_TAG_CHARACTERS
from core.cache.figures import figures
from core.models import Verb


class LevelSerializer(serializers.Serializer):
    """entries, bytes: null while nobody can tell. The rest was counted since the group started, by all its processes.

    What the memory misses is asked of the store.
    """

    entries = serializers.IntegerField(allow_null=True)
    bytes = serializers.IntegerField(allow_null=True)
    limit_bytes = serializers.IntegerField()
    hits = serializers.IntegerField()
    misses = serializers.IntegerField()
    sets = serializers.IntegerField()
    evictions = serializers.IntegerField()


class CacheSerializer(serializers.Serializer):
    """store: what all processes share. is_degraded: it is away, and each process remembers for itself.

    hit_ratio: of all questions so far; null before the first. memory: of all processes; limit_bytes is that of each.
    """

    store = serializers.CharField()
    is_degraded = serializers.BooleanField()
    degraded_since = serializers.DateTimeField(allow_null=True)
    hit_ratio = serializers.FloatField(allow_null=True)
    invalidations = serializers.IntegerField()
    memory = LevelSerializer()
    shared = LevelSerializer()


class TagInput(StrictSerializer):
    tag = TextField(max_length=MAX_TAG_CHARACTERS)


class ForgottenSerializer(serializers.Serializer):
    """holds: in every process, already. Where it is false, the store is away: it will, as soon as that is back."""

    holds = serializers.BooleanField()


class CacheView(APIView):
    read_verb = Verb.OPERATE

    @extend_schema(operation_id="cache", tags=["cache"], responses=CacheSerializer)
    def get(self, request: Request) -> Response:
        """Tell how full the cache is, and how often it could answer."""
        return Response(CacheSerializer(figures()).data)


class InvalidateView(APIView):
    @extend_schema(
        operation_id="cache_invalidate",
        tags=["cache"],
        request=TagInput,
        responses={200: ForgottenSerializer, 202: ForgottenSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have nothing found any more that was made with a tag, by any process."""
        wanted = TagInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        return _forgotten(holds=steering.invalidate(wanted.validated_data["tag"]))


class ClearView(APIView):
    @extend_schema(
        operation_id="cache_clear",
        tags=["cache"],
        request=NoInput,
        responses={200: ForgottenSerializer, 202: ForgottenSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have nothing found any more, by any process."""
        NoInput(data=request.data).is_valid(raise_exception=True)
        return _forgotten(holds=steering.clear())


def _forgotten(*, holds: bool) -> Response:
    return Response({"holds": holds}, status.HTTP_200_OK if holds else status.HTTP_202_ACCEPTED)
