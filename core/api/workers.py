"""GET /api/v1/workers: which processes serve, and what each does now."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.models import Process, Verb
from core.ops import group
from core.ops.group import Member, State


class WorkSerializer(serializers.Serializer):
    """A task, or a maintenance job by the id of its run."""

    kind = serializers.ChoiceField(["task", "job"])
    id = serializers.UUIDField()
    title = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)


class ProcessSerializer(serializers.Serializer):
    """state: "silent" where it was not heard of for 30 seconds, "dead" where its host knows that it ended.

    threads: how much it does at a time. duties: what it does for all processes.
    """

    role = serializers.ChoiceField(Process.Role.choices, source="process.role")
    host = serializers.CharField()
    pid = serializers.IntegerField()
    state = serializers.ChoiceField([state.value for state in State])
    started_at = serializers.DateTimeField(source="process.started_at")
    last_heard_at = serializers.DateTimeField()
    threads = serializers.IntegerField(source="process.threads", allow_null=True)
    version = serializers.CharField(source="process.version")
    duties = serializers.ListField(child=serializers.CharField())
    work = WorkSerializer(many=True)


class GroupSerializer(serializers.Serializer):
    """alive: how many of the processes are."""

    alive = serializers.IntegerField()
    processes = ProcessSerializer(many=True)


class WorkersView(APIView):
    """For whoever may read the metrics."""

    read_verb = Verb.METRICS

    @extend_schema(operation_id="workers", tags=["operation"], responses=GroupSerializer)
    def get(self, request: Request) -> Response:
        """Tell of every process that serves, and of those that were lost within a day."""
        return Response(GroupSerializer(_told(group.members())).data)


def _told(members: list[Member]) -> dict[str, Any]:
    return {"alive": sum(member.state == State.ALIVE for member in members), "processes": members}
