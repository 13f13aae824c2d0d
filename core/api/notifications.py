"""What people were told, and how they want to be told."""

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from core.access.permissions import IsPerson, MayDoIt
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.filters import TruthFilter
from core.api.serializers import NoInput, RowSerializer, StrictSerializer, TextField, TruthField
from core.exceptions import InvalidInput
from core.models import Notification, User, Verb
from core.notifications import inbox, preferences
from core.notifications.preferences import Preference

MAX_EVENTS = 100


class NotificationSerializer(RowSerializer):
    """Something that you were told. link: where to look, a path of this server.

    count: how many of the same kind it stands for, which came while it was unread.
    """

    class Meta:
        model = Notification
        fields = ["id", "event", "title", "body", "link", "count", "created_at", "read_at"]
        read_only_fields = fields


class UnreadSerializer(serializers.Serializer):
    unread = serializers.IntegerField()


class MarkedSerializer(serializers.Serializer):
    """How many notifications became read."""

    marked = serializers.IntegerField()


class PreferenceSerializer(serializers.Serializer):
    """How you are told of an event: in the product (in_app) and by email."""

    event = serializers.SlugField(source="event.name")
    label = serializers.CharField(source="event.label")  # type: ignore[assignment]
    description = serializers.CharField(source="event.description")
    in_app = serializers.BooleanField()
    email = serializers.BooleanField()


class PreferencesSerializer(serializers.Serializer):
    """email_is_available: whether this server can send email; while it cannot, nothing is sent whatever is chosen."""

    email_is_available = serializers.BooleanField()
    events = PreferenceSerializer(many=True)


class PreferenceInput(StrictSerializer):
    """What to change for one event; a channel that is not named stays as it is."""

    event = TextField(max_length=60)
    in_app = TruthField(required=False)
    email = TruthField(required=False)


class PreferencesInput(StrictSerializer):
    events = serializers.ListField(child=PreferenceInput(), max_length=MAX_EVENTS)


class NotificationFilters(filters.FilterSet):
    is_unread = TruthFilter(field_name="read_at", lookup_expr="isnull")


class NotificationViewSet(AuditedMixin, mixins.ListModelMixin, GenericViewSet):
    """What you were told, the newest first."""

    queryset = Notification.objects.all()
    serializer_class = NotificationSerializer
    filterset_class = NotificationFilters
    write_verb = Verb.READ  # viewers read what they were told, too
    unaudited = frozenset({"read", "read_all", "change_preferences"})  # a row says when it was read; the service tells
    ordering = ("-id",)
    ordering_fields = {"created_at": "id"}
    search_fields = ("title", "body")

    def get_queryset(self) -> QuerySet[Notification]:
        return inbox.of(principal_of(self.request).user)

    def get_serializer_class(self) -> Any:
        inputs = {"read": NoInput, "read_all": NoInput, "change_preferences": PreferencesInput}
        return inputs.get(self.action, NotificationSerializer)

    @extend_schema(request=None, responses=NotificationSerializer)
    @action(detail=True, methods=["post"])
    def read(self, request: Request, pk: str) -> Response:
        """Mark a notification as read. One that was read stays as it is."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        notification = self.get_object()
        inbox.mark_read(notification)
        return Response(NotificationSerializer(notification).data)

    @extend_schema(request=None, responses=MarkedSerializer)
    @action(detail=False, methods=["post"], url_path="read-all")
    def read_all(self, request: Request) -> Response:
        """Mark all your notifications as read."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        return Response(MarkedSerializer({"marked": inbox.mark_all_read(principal_of(request).user)}).data)

    @extend_schema(responses=UnreadSerializer, filters=False)
    @action(detail=False, methods=["get"], url_path="unread-count", pagination_class=None, filter_backends=[])
    def unread_count(self, request: Request) -> Response:
        """Tell how many of your notifications are unread."""
        return Response(UnreadSerializer({"unread": inbox.unread(principal_of(request).user).count()}).data)

    @extend_schema(operation_id="notification_preferences", responses=PreferencesSerializer, filters=False)
    @action(
        detail=False,
        methods=["get"],
        url_path="preferences",
        permission_classes=[MayDoIt, IsPerson],  # a stolen key could keep its thief's sign-in quiet
        pagination_class=None,
        filter_backends=[],
    )
    def show_preferences(self, request: Request) -> Response:
        """Tell how you are told of what."""
        return Response(_shown(principal_of(request).user))

    @extend_schema(
        operation_id="notification_preferences_change", request=PreferencesInput, responses=PreferencesSerializer
    )
    @show_preferences.mapping.patch
    def change_preferences(self, request: Request) -> Response:
        """Choose how you are told of what: send the events that change. Only people can, no API keys."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        person = principal_of(request).user
        preferences.change(person, _chosen(person, wanted.validated_data["events"]))
        return Response(_shown(person))


def _shown(person: User) -> dict[str, Any]:
    told = {"email_is_available": settings.EMAIL_IS_CONFIGURED, "events": preferences.of(person)}
    return PreferencesSerializer(told).data


def _chosen(person: User, changes: list[dict[str, Any]]) -> list[Preference]:
    """Apply what was sent to what holds. Raises InvalidInput."""
    now = {preference.event.name: preference for preference in preferences.of(person)}
    for change in changes:
        old = now.get(change["event"])
        if old is None:
            raise InvalidInput({"events": [f"Nobody tells you of {change['event']!r}."]})
        new = replace(old, in_app=change.get("in_app", old.in_app), email=change.get("email", old.email))
        if new.email != old.email and not settings.EMAIL_IS_CONFIGURED:
            raise InvalidInput({"events": ["This server cannot send email; an operator has to configure it first."]})
        now[change["event"]] = new
    return list(now.values())
