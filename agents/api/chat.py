"""One message, one answer: at once, as a stream, or later."""

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from agents.api import answers, lookups
from agents.api.priorities import Priority, PriorityField
from agents.api.renderers import STREAMING_RENDERERS
from agents.api.schema import EVENT, IDEMPOTENCY_KEY
from agents.api.streams import AwaitResponse, FollowResponse
from agents.engine import priorities
from agents.engine.submit import Accepted, submit
from agents.kinds import KINDS
from core.access.principal import principal_of
from core.api.idempotency import key_of, replay_headers
from core.api.serializers import IdField, StrictSerializer, TextField, TruthField, WholeNumberField
from core.exceptions import InvalidInput
from core.models import Verb

RESPOND_ASYNC = "respond-async"


class ChatInput(StrictSerializer):
    """A message to an agent.

    agent: name or id; default: the session's, else the agent "helper", else the first chat agent.
    session: a conversation to go on with; default: a new one. stream: server-sent events instead of one answer.
    version: for operators, the number of a version to try instead of the live one. priority: the class to wait in;
    default: interactive, and normal for those who fetch the answer later. Only operators may ask for a higher one.
    """

    message = TextField(allow_blank=True)
    agent = TextField(required=False, max_length=60)
    session = IdField(required=False, allow_null=True)
    stream = TruthField(default=False)
    version = WholeNumberField(required=False, min_value=1, max_value=10**9)
    priority = PriorityField(required=False)


class ChatAnswer(serializers.Serializer):
    """An agent's answer. truncated: something was cut. degraded: the built-in model stood in."""

    response = serializers.CharField()
    model = serializers.CharField()
    cached = serializers.BooleanField()
    session = serializers.UUIDField()
    task = serializers.UUIDField()
    truncated = serializers.BooleanField()
    degraded = serializers.BooleanField()


class ChatView(APIView):
    """Send a message to an agent and receive its answer."""

    write_verb = Verb.SUBMIT
    renderer_classes = STREAMING_RENDERERS
    serializer_class = ChatInput  # the browsable API's form

    @extend_schema(
        operation_id="chat",
        tags=["chat"],
        request=ChatInput,
        parameters=[
            IDEMPOTENCY_KEY,
            OpenApiParameter(
                "Prefer",
                str,
                OpenApiParameter.HEADER,
                description="`respond-async`: answer 202 with the task at once.",
            ),
        ],
        responses={
            (200, "application/json"): ChatAnswer,
            (200, "text/event-stream"): OpenApiResponse(
                EVENT, description='With `"stream": true`: the events of the task, which the first names.'
            ),
            (202, "application/json"): answers.AcceptedSerializer,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        wanted = ChatInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        accepted = _submit(request, wanted.validated_data)
        if wanted.validated_data["stream"]:
            return _with_headers(FollowResponse(request, accepted.task_id), accepted)
        if _prefers_async(request):
            response = answers.accepted(accepted)
            response["Preference-Applied"] = RESPOND_ASYNC
            return response
        return _with_headers(AwaitResponse(request, accepted.task_id), accepted)


def _submit(request: Request, wanted: dict[str, Any]) -> Accepted:
    principal = principal_of(request)
    session = lookups.session(principal, wanted["session"]) if wanted.get("session") else None
    if "agent" in wanted:
        agent = lookups.agent(principal, wanted["agent"])
    else:
        agent = session.agent if session else lookups.chat_agent(principal)
    is_awaited = wanted["stream"] or not _prefers_async(request)
    usual = Priority.INTERACTIVE if is_awaited else Priority.NORMAL
    if not KINDS[agent.kind].has_sessions:
        raise InvalidInput({"agent": [f"{agent.name!r} holds no conversations; submit it a task instead."]})
    return submit(
        agent=agent,
        owner=principal.user,
        api_key=principal.api_key,
        input={"message": wanted["message"]},
        session=session,
        starts_session=session is None,
        version=lookups.version(principal, agent, wanted.get("version")),
        priority=priorities.choose(wanted.get("priority"), usual, is_operator=principal.is_operator),
        idempotency_key=key_of(request),
        allowed_models=principal.model_names,
    )


def _prefers_async(request: Request) -> bool:
    """Read the header Prefer (RFC 7240): preferences separated by commas, each perhaps with parameters."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    return RESPOND_ASYNC in {preference.partition(";")[0].strip() for preference in preferences}


def _with_headers(response: HttpResponseBase, accepted: Accepted) -> HttpResponseBase:
    for name, value in replay_headers(is_replay=accepted.is_replay).items():
        response[name] = value
    return response
