"""Tasks: submit, watch, cancel, retry."""

import json
import uuid
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.viewsets import GenericViewSet

from agents import kinds
from agents.api import answers, lookups, reach
from agents.api.priorities import Priority, PriorityField
from agents.api.renderers import FOLLOWING_RENDERERS, EventStreamRenderer
from agents.api.schema import EVENT, IDEMPOTENCY_KEY
from agents.api.streams import FollowResponse
from agents.engine import priorities, queue
from agents.engine.errors import AlreadyFinished
from agents.engine.submit import Accepted, cancel, prioritise, resubmit, submit
from agents.models import AgentTask, TaskEvent
from core.access.principal import principal_of
from core.api.audited import AuditedMixin
from core.api.filters import MomentFilter
from core.api.idempotency import key_of
from core.api.queries import InvalidQuery, refuse_unknown, whole_number
from core.api.serializers import (
    NoInput,
    ObjectField,
    RowSerializer,
    StrictSerializer,
    TextField,
    WholeNumberField,
    shown,
)
from core.exceptions import InvalidInput
from core.models import Verb

NEW_SESSION = "new"
MAX_EVENT_NUMBER = 2**31 - 1
LAST_EVENT_ID = "Last-Event-ID"


class TaskInput(StrictSerializer):
    """Work for an agent.

    agent: name or id. input: what the agent's kind asks for: {"message": …} for chat, {"text": …} for text_analysis.
    session: for agents that chat, the id of a conversation to go on with, or "new" to begin one; default: none, the
    task stands alone. version: for operators, the number of a version to try instead of the live one.
    priority: the class to wait in; default: normal. Only operators may ask for a higher one.
    """

    agent = TextField(max_length=60)
    input = ObjectField()
    session = TextField(required=False, allow_null=True, max_length=36)
    version = WholeNumberField(required=False, min_value=1, max_value=10**9)
    priority = PriorityField(required=False)

    def validate_session(self, value: str | None) -> str | uuid.UUID | None:
        if value is None or value == NEW_SESSION:
            return value
        try:
            return uuid.UUID(value)
        except ValueError:
            raise serializers.ValidationError(f'A session\'s id or "{NEW_SESSION}" is expected.') from None


class PriorityInput(StrictSerializer):
    """front: before all others. Else the class to wait in."""

    priority = PriorityField(offers_front=True)


class ErrorSerializer(serializers.Serializer):
    code = serializers.CharField(source="error_code")
    detail = serializers.CharField(source="error_detail")


class TaskListSerializer(RowSerializer):
    """A task in a list: all but its input, data and receipt."""

    agent = serializers.CharField(source="agent.name")
    agent_id = serializers.UUIDField()
    priority = PriorityField(offers_front=True, read_only=True)
    version = serializers.IntegerField(source="version.number")
    session = serializers.UUIDField(source="session_id", allow_null=True)
    owner = serializers.CharField(source="owner.username")
    retry_of = serializers.UUIDField(source="retry_of_id", allow_null=True)
    error = serializers.SerializerMethodField()

    reads = ("error_code", "error_detail")

    class Meta:
        model = AgentTask
        fields = [
            "id",
            "status",
            "kind",
            "agent",
            "agent_id",
            "version",
            "model",
            "priority",
            "session",
            "owner",
            "retry_of",
            "result",
            "error",
            "is_truncated",
            "is_degraded",
            "attempts",
            "interruptions",
            "prompt_tokens",
            "output_tokens",
            "created_at",
            "granted_at",
            "started_at",
            "first_output_at",
            "finished_at",
            "deadline_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, task: AgentTask) -> dict[str, str] | None:
        return {"code": task.error_code, "detail": task.error_detail} if task.error_code else None


class TaskSerializer(TaskListSerializer):
    """A task.

    position: tasks to be started up to this one, itself included; null once it does not wait. expected_wait_seconds:
    until it is started, by the pace of late; null where nobody knows.
    output: the answer as data, where the agent's kind gives some.
    """

    position = serializers.SerializerMethodField()
    expected_wait_seconds = serializers.SerializerMethodField()
    events_url = serializers.SerializerMethodField()
    receipt_url = serializers.SerializerMethodField()

    class Meta(TaskListSerializer.Meta):
        fields = [
            *TaskListSerializer.Meta.fields,
            "input",
            "output",
            "position",
            "expected_wait_seconds",
            "events_url",
            "receipt_url",
        ]
        read_only_fields = fields

    def get_position(self, task: AgentTask) -> int | None:
        standing = _standing(task)
        return standing.position if standing else None

    def get_expected_wait_seconds(self, task: AgentTask) -> float | None:
        standing = _standing(task)
        return standing.expected_wait_seconds if standing else None

    def get_events_url(self, task: AgentTask) -> str:
        return f"{answers.task_url(task.pk)}events/"

    def get_receipt_url(self, task: AgentTask) -> str:
        return f"{answers.task_url(task.pk)}receipt/"


def _standing(task: AgentTask) -> queue.Standing | None:
    """Where a task stands; it is asked once for each that is shown."""
    if "standing" not in task.__dict__:
        task.__dict__["standing"] = queue.standing(task)
    return task.__dict__["standing"]  # type: ignore[no-any-return]


class EventSerializer(RowSerializer):
    """What happened to a task; `data` depends on the type."""

    data = serializers.SerializerMethodField()  # type: ignore[assignment]

    class Meta:
        model = TaskEvent
        fields = ["number", "type", "data", "created_at"]
        read_only_fields = fields

    def get_data(self, event: TaskEvent) -> dict[str, Any]:
        return json.loads(event.data)  # type: ignore[no-any-return]


class EventPage(serializers.Serializer):
    """Events in order; `next` has the address of those that follow, null where there are none yet."""

    next = serializers.URLField(allow_null=True)
    results = EventSerializer(many=True)


class PhaseSerializer(serializers.Serializer):
    name = serializers.CharField()
    seconds = serializers.FloatField()


class ReceiptSerializer(serializers.Serializer):
    """Where the time of a finished task went: the phases add up to the wall time. Further members tell of its run."""

    model = serializers.CharField()
    wall_seconds = serializers.FloatField()
    phases = PhaseSerializer(many=True)
    attempts = serializers.IntegerField()
    interruptions = serializers.IntegerField()
    cached = serializers.BooleanField()


class TaskFilters(filters.FilterSet):
    status = filters.MultipleChoiceFilter(choices=AgentTask.Status.choices)
    kind = filters.ChoiceFilter(choices=kinds.choices())
    agent = filters.CharFilter(method="of_agent", max_length=60, label="Name or id of an agent.")
    session = filters.UUIDFilter(field_name="session_id")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    def of_agent(self, tasks: QuerySet[AgentTask], _: str, name_or_id: str) -> QuerySet[AgentTask]:
        return tasks.filter(agent__in=lookups.agents_called(principal_of(self.request), name_or_id))


class TaskViewSet(AuditedMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Tasks: your own; operators see everybody's."""

    write_verb = Verb.SUBMIT
    queryset = AgentTask.objects.all()
    serializer_class = TaskSerializer
    unaudited = frozenset({"create"})  # the task itself is the record
    filterset_class = TaskFilters
    ordering = ("-id",)
    ordering_fields = {"created_at": "id"}
    search_fields = ("input__message", "input__text", "result", "error_detail")

    def get_queryset(self) -> QuerySet[AgentTask]:
        rows = reach.tasks(principal_of(self.request))
        if self.action in {"events", "receipt"}:
            return rows.only("receipt" if self.action == "receipt" else "pk")
        if self.action in {"list", "retrieve"}:
            return shown(rows, self.get_serializer_class())
        return rows.select_related("agent", "version", "owner")

    def get_serializer_class(self) -> Any:
        by_action = {
            "list": TaskListSerializer,
            "create": TaskInput,
            "cancel": NoInput,
            "retry": NoInput,
            "priority": PriorityInput,
        }
        return by_action.get(self.action, TaskSerializer)

    @extend_schema(request=TaskInput, parameters=[IDEMPOTENCY_KEY], responses={202: answers.AcceptedSerializer})
    def create(self, request: Request) -> Response:
        """Submit a task to an agent. It is written down before the answer, and will end."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return answers.accepted(_submit(request, wanted.validated_data))

    @extend_schema(request=None, responses=TaskSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """End a task now; its model is let go within two seconds. A task that ended otherwise stays as it is (409)."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        task = self.get_object()
        was_cancelled = cancel(task.pk)
        task.refresh_from_db()
        if not was_cancelled and task.status != AgentTask.Status.CANCELLED:
            raise AlreadyFinished
        return Response(TaskSerializer(task).data)

    @extend_schema(request=None, parameters=[IDEMPOTENCY_KEY], responses={202: answers.AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Submit a finished task's input again, as a new task of the same owner."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        task = self.get_object()
        principal = principal_of(request)
        accepted = resubmit(
            task,
            owner=task.owner,
            api_key=principal.api_key,
            idempotency_key=key_of(request),
            allowed_models=principal.model_names,
        )
        return answers.accepted(accepted)

    @extend_schema(request=PriorityInput, responses=TaskSerializer)
    @action(detail=True, methods=["post"], write_verb=Verb.OPERATE)
    def priority(self, request: Request, pk: str) -> Response:
        """Move a waiting task into another class, or to the front. For operators; a task must wait (else 409)."""
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        task = self.get_object()
        prioritise(task.pk, wanted.validated_data["priority"])
        task.refresh_from_db()
        return Response(TaskSerializer(task).data)

    @extend_schema(responses=ReceiptSerializer)
    @action(detail=True)
    def receipt(self, request: Request, pk: str) -> Response:
        """Explain where a finished task's time went. A task that has not ended has no receipt yet (404)."""
        task = self.get_object()
        if task.receipt is None:
            raise NotFound("The task has not ended; it has no receipt yet.")
        return Response(task.receipt)

    @extend_schema(
        parameters=[
            OpenApiParameter("after", int, description="Begin after the event of this number; default 0."),
            OpenApiParameter("page_size", int, description="Events on a page of JSON, at most 1000."),
            OpenApiParameter(LAST_EVENT_ID, int, OpenApiParameter.HEADER, description="As `after`, and before it."),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                EVENT, description="id: the event's number; event: state, delta, done or error; data: JSON."
            ),
            (200, "application/json"): EventPage,
        },
    )
    @action(detail=True, renderer_classes=FOLLOWING_RENDERERS, filter_backends=[], pagination_class=None)
    def events(self, request: Request, pk: str) -> HttpResponseBase:
        """Follow a task: its events as they happen, until its end; as JSON, those that are there."""
        refuse_unknown(request, {"after", "page_size"})
        after = _after(request)
        task = self.get_object()
        # HEAD asks for the headers alone: a stream would keep it waiting for the task's end.
        if isinstance(request.accepted_renderer, EventStreamRenderer) and request.method == "GET":
            return FollowResponse(request, task.pk, after=after)
        return Response(_event_page(request, task, after))


def _submit(request: Request, wanted: dict[str, Any]) -> Accepted:
    principal = principal_of(request)
    agent = lookups.agent(principal, wanted["agent"])
    session = wanted.get("session")
    if session == NEW_SESSION and not kinds.KINDS[agent.kind].has_sessions:
        raise InvalidInput({"session": [f"Agents of the kind {agent.kind!r} have no conversations."]})
    return submit(
        agent=agent,
        owner=principal.user,
        api_key=principal.api_key,
        input=wanted["input"],
        session=lookups.session(principal, session) if isinstance(session, uuid.UUID) else None,
        starts_session=session == NEW_SESSION,
        version=lookups.version(principal, agent, wanted.get("version")),
        priority=priorities.choose(wanted.get("priority"), Priority.NORMAL, is_operator=principal.is_operator),
        idempotency_key=key_of(request),
        allowed_models=principal.model_names,
    )


def _after(request: Request) -> int:
    """The number to begin after: what the browser repeats when it reconnects, else the query's."""
    text = request.headers.get(LAST_EVENT_ID)
    if text is None:
        return whole_number(request, "after", default=0, minimum=0, maximum=MAX_EVENT_NUMBER)
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > MAX_EVENT_NUMBER:
        raise InvalidQuery({LAST_EVENT_ID: ["The number of an event is expected."]})
    return int(text)


def _event_page(request: Request, task: AgentTask, after: int) -> dict[str, Any]:
    size = whole_number(request, "page_size", default=100, minimum=1, maximum=1000)
    events = list(task.events.filter(number__gt=after).order_by("number")[: size + 1])
    page = events[:size]
    more = replace_query_param(request.build_absolute_uri(), "after", page[-1].number) if len(events) > size else None
    return {"next": more, "results": EventSerializer(page, many=True).data}
