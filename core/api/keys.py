"""A person's own API keys."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from core.access import api_keys
from core.access.permissions import IsPerson, MayDoIt
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.serializers import NoInput, RowSerializer, StrictSerializer, TextField, WholeNumberField
from core.models import ApiKey, Verb

MAX_OVERLAP_HOURS = 24 * 30


class KeyInput(StrictSerializer):
    """A key to make; what it does not name limits nothing. verbs: what it may do of what you may.

    "models", for managing models on nodes, only a key may that names it, and only an operator's.
    """

    name = TextField(max_length=api_keys.MAX_LABEL_CHARACTERS, required=False, allow_blank=True, default="")
    verbs = serializers.ListField(child=serializers.ChoiceField(choices=Verb.choices), max_length=10, default=list)
    agent_names = serializers.ListField(
        child=TextField(max_length=api_keys.MAX_AGENT_CHARACTERS), max_length=api_keys.MAX_NAMES, default=list
    )
    model_names = serializers.ListField(
        child=TextField(max_length=api_keys.MAX_MODEL_CHARACTERS), max_length=api_keys.MAX_NAMES, default=list
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class RotateInput(StrictSerializer):
    """overlap_hours: how long both keys work."""

    overlap_hours = WholeNumberField(min_value=0, max_value=MAX_OVERLAP_HOURS, default=24)


class KeySerializer(RowSerializer):
    """A key without its secret. key_id: the part of the key that may be seen."""

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "key_id",
            "verbs",
            "agent_names",
            "model_names",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        ]
        read_only_fields = fields


class NewKeySerializer(KeySerializer):
    """A key that was just made. text: the key itself, which is never shown again."""

    text = serializers.CharField()

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "text"]
        read_only_fields = fields


class KeyViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Your own keys for programs."""

    queryset = ApiKey.objects.all()
    serializer_class = KeySerializer
    permission_classes = [MayDoIt, IsPerson]  # a key that was stolen could outlive its owner's revoking it
    write_verb = Verb.READ  # a viewer's key can do what a viewer can
    ordering = ("-id",)
    ordering_fields = {"created_at": "id"}
    search_fields = ("name", "key_id")

    def get_queryset(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.filter(user=principal_of(self.request).user)

    def get_serializer_class(self) -> Any:
        return {"create": KeyInput, "rotate": RotateInput, "revoke": NoInput}.get(self.action, KeySerializer)

    @extend_schema(request=KeyInput, responses={201: NewKeySerializer})
    def create(self, request: Request) -> Response:
        """Make a key. Its text is in this answer, and never again: so a repeated request makes another key."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        content = dict(wanted.validated_data)
        name = content.pop("name")
        return _shown_once(*api_keys.issue(principal_of(request).user, name, api_keys.Scope(**content)))

    @extend_schema(request=RotateInput, responses={201: NewKeySerializer})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """Make a key that may do the same; the old one works on for some hours, so that programs can change over."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        overlap = timedelta(hours=wanted.validated_data["overlap_hours"])
        return _shown_once(*api_keys.rotate(self.get_object(), overlap=overlap))

    @extend_schema(request=None, responses=KeySerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """Have a key never work again."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        key = self.get_object()
        api_keys.revoke(ApiKey.objects.filter(pk=key.pk))
        key.refresh_from_db()
        return Response(KeySerializer(key).data)


def _shown_once(key: ApiKey, text: str) -> Response:
    key.text = text  # type: ignore[attr-defined]
    response = Response(NewKeySerializer(key).data, status=status.HTTP_201_CREATED)
    response["Cache-Control"] = "no-store"
    return response
