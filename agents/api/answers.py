"""The answers to requests that make something."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from rest_framework import serializers, status
from rest_framework.response import Response

from agents.engine.submit import Accepted
from core.api.idempotency import replay_headers


class AcceptedSerializer(serializers.Serializer):
    """An accepted task; the header Location has its address."""

    task = serializers.UUIDField()


def address(route: str, *args: object) -> str:
    """The path of an object, as answers spell it: with its trailing slash."""
    return reverse(route, args=args).rstrip("/") + "/"


def task_url(task_id: uuid.UUID) -> str:
    return address("task-detail", task_id)


def accepted(task: Accepted) -> Response:
    """202: the work goes on after the answer."""
    return Response(
        {"task": str(task.task_id)},
        status=status.HTTP_202_ACCEPTED,
        headers={"Location": task_url(task.task_id), **replay_headers(is_replay=task.is_replay)},
        content_type="application/json",
    )


def created(data: Mapping[str, Any], location: str, *, is_replay: bool) -> Response:
    """201: the object, as it is now; the same for a request that is repeated under its Idempotency-Key."""
    headers = {"Location": location, **replay_headers(is_replay=is_replay)}
    return Response(data, status=status.HTTP_201_CREATED, headers=headers)
