"""The answer to a request whose work goes on after it: 202, and where to look."""

import uuid

from django.urls import reverse
from rest_framework import serializers, status
from rest_framework.response import Response

from agents.engine.submit import Accepted
from core.api.idempotency import replay_headers


class AcceptedSerializer(serializers.Serializer):
    """An accepted task; the header Location has its address."""

    task = serializers.UUIDField()


def task_url(task_id: uuid.UUID) -> str:
    return reverse("task-detail", args=[task_id]).rstrip("/") + "/"


def accepted_response(accepted: Accepted) -> Response:
    return Response(
        {"task": str(accepted.task_id)},
        status=status.HTTP_202_ACCEPTED,
        headers={"Location": task_url(accepted.task_id), **replay_headers(is_replay=accepted.is_replay)},
        content_type="application/json",
    )
