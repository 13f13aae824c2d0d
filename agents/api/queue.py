"""The queues, for operators: per model and node what runs, and who waits."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agents.api import answers
from agents.api.priorities import PriorityField
from agents.engine import queue
from agents.models.node import canonical_model_name
from core.api.queries import refuse_unknown, whole_number
from core.models import CircuitBreaker, Verb

TASKS = 100
MAX_TASKS = 1000


class QueuePlaceSerializer(serializers.Serializer):
    """A model on a node. slots: of which `running` are taken. service_seconds: how long a task holds one, of late.

    breaker_state: whether the node is given tasks, which it is while its circuit breaker is closed. room_at: when the
    model is loaded at the latest, where tasks wait for others to make room; else null.
    """

    node = serializers.CharField(source="place.node.name")
    node_id = serializers.UUIDField(source="place.node_id")
    breaker_state = serializers.ChoiceField(CircuitBreaker.State.choices, source="place.node.breaker.state_that_holds")
    is_draining = serializers.BooleanField(source="place.node.is_draining")
    is_loaded = serializers.BooleanField(source="place.is_loaded")
    slots = serializers.IntegerField(source="place.node.slots")
    running = serializers.IntegerField()
    service_seconds = serializers.FloatField(source="place.service_seconds", allow_null=True)
    room_at = serializers.DateTimeField(allow_null=True)


class QueuedTaskSerializer(serializers.Serializer):
    """A task that waits. priority: what it was given; waits_as: the class that it is in by now."""

    task = serializers.UUIDField(source="task.pk")
    task_url = serializers.SerializerMethodField()
    position = serializers.IntegerField(source="standing.position")
    priority = PriorityField(offers_front=True, source="task.priority")
    waits_as = PriorityField(offers_front=True, source="standing.priority")
    agent = serializers.CharField(source="task.agent.name")
    owner = serializers.CharField(source="task.owner.username")
    team = serializers.CharField(source="task.team.name")
    waits_since = serializers.DateTimeField(source="standing.since")
    expected_wait_seconds = serializers.FloatField(source="standing.expected_wait_seconds", allow_null=True)

    def get_task_url(self, entry: queue.Entry) -> str:
        return answers.task_url(entry.task.pk)


class ModelQueueSerializer(serializers.Serializer):
    """A model's queue. waiting: all that wait; tasks: the first of them. expected_wait_seconds: of who comes now."""

    model = serializers.CharField()
    slots = serializers.IntegerField()
    running = serializers.IntegerField()
    waiting = serializers.IntegerField()
    expected_wait_seconds = serializers.FloatField(allow_null=True)
    places = QueuePlaceSerializer(many=True)
    tasks = QueuedTaskSerializer(many=True)


class QueuesSerializer(serializers.Serializer):
    results = ModelQueueSerializer(many=True)


class QueueView(APIView):
    """What waits for each model, in the order in which it is to be started, and what runs."""

    read_verb = Verb.OPERATE

    @extend_schema(
        operation_id="queue",
        tags=["queue"],
        parameters=[
            OpenApiParameter("model", str, description="Only the queue of this model."),
            OpenApiParameter("tasks", int, description=f"Tasks of each queue, at most {MAX_TASKS}; default {TASKS}."),
        ],
        responses=QueuesSerializer,
    )
    def get(self, request: Request) -> Response:
        """Show the queues of all models, the longest first."""
        refuse_unknown(request, {"model", "tasks"})
        tasks = whole_number(request, "tasks", default=TASKS, minimum=0, maximum=MAX_TASKS)
        model = canonical_model_name(request.query_params.get("model", ""))
        found: Any = queue.overview(tasks=tasks, model=model)
        return Response(QueuesSerializer({"results": found}).data)
