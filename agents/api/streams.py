"""Answers that take time: a view says what to follow, and the ASGI dispatcher does the waiting.

Django's views run in a bounded pool of threads with a database connection each. A view that wants to follow a task
therefore ends at once with one of these responses; the dispatcher (`sutazai.asgi`) then streams the task's events, or
waits for its end, on the event loop, where a thousand such waits cost neither threads nor connections.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from rest_framework.request import Request

from agents.engine.follow import Event, reader
from agents.models import AgentTask
from core.access.principal import principal_of
from core.access.watch import Holder
from core.api import problems

FOLLOW_HEADER = "X-SutazAI-Follow"
AWAIT_HEADER = "X-SutazAI-Await"
HOLDER_HEADER = "X-SutazAI-Holder"
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"

# How a task that did not succeed is told to someone who waited for its answer; other failures are the model's.
FAILURE_STATUS = {
    "cancelled": HTTPStatus.CONFLICT,
    "context-overflow": HTTPStatus.UNPROCESSABLE_ENTITY,
    "deadline-passed": HTTPStatus.GATEWAY_TIMEOUT,
    "first-byte-timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "gap-timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "internal-error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "poison": HTTPStatus.INTERNAL_SERVER_ERROR,
}


class FollowResponse(HttpResponse):
    """Have a task's events streamed as server-sent events, those after a number."""

    def __init__(self, request: Request, task_id: uuid.UUID, *, after: int = 0) -> None:
        super().__init__(content_type="text/event-stream; charset=utf-8")
        self[FOLLOW_HEADER] = f"{task_id} {after}"
        self[HOLDER_HEADER] = _holder(request)
        self["Cache-Control"] = "no-cache"
        self["X-Accel-Buffering"] = "no"  # proxies pass events on as they come


class AwaitResponse(HttpResponse):
    """Have a task's end awaited and its answer sent."""

    def __init__(self, request: Request, task_id: uuid.UUID) -> None:
        super().__init__(content_type="application/json")
        self[AWAIT_HEADER] = str(task_id)
        self[HOLDER_HEADER] = _holder(request)


def _holder(request: Request) -> str:
    """Tell the dispatcher whose right the wait goes by, so that it ends with it."""
    session = getattr(request._request, "session", None)
    return str(Holder.of(principal_of(request), (session and session.session_key) or ""))


async def event_stream(task_id: uuid.UUID, after: int) -> AsyncIterator[bytes]:
    """Yield a task's events as server-sent events, and comments in long silences so that proxies keep the line."""
    async for events in with_silences(reader.follow(task_id, after=after, tells_position=True)):
        yield b"".join(map(encode, events)) if events else KEEP_ALIVE


def encode(event: Event) -> bytes:
    """Write an event. What is in no row has no id: whoever reconnects begins after the last one that has."""
    number = f"id: {event.number}\n" if event.number else ""
    return f"{number}event: {event.type}\ndata: {event.data}\n\n".encode()


async def with_silences(batches: AsyncIterator[list[Event]]) -> AsyncIterator[list[Event]]:
    """Pass batches on; an empty one tells of KEEP_ALIVE_SECONDS without any."""
    waiting = asyncio.ensure_future(anext(batches))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield []
                continue
            try:
                yield waiting.result()
            except StopAsyncIteration:
                return
            waiting = asyncio.ensure_future(anext(batches))
    finally:
        waiting.cancel()


async def wait_for_end(task_id: uuid.UUID) -> None:
    """Return when the task has ended."""
    async for _ in reader.follow(task_id):
        pass


def answer(task_id: uuid.UUID, request_id: str) -> HttpResponse:
    """Tell an ended task's answer, or why there is none."""
    try:
        task = AgentTask.objects.select_related("session").filter(pk=task_id).first()
    except (OperationalError, InterfaceError):
        return _ask_later(task_id, request_id)
    if task is None:
        return problems.response(
            status=HTTPStatus.NOT_FOUND,
            code="not-found",
            title="The task was deleted while it was awaited",
            request_id=request_id,
        )
    if task.status != AgentTask.Status.SUCCEEDED:
        return problems.response(
            status=FAILURE_STATUS.get(task.error_code, HTTPStatus.BAD_GATEWAY),
            code=task.error_code,
            title=f"The task {task.get_status_display().lower()}",
            detail=task.error_detail,
            request_id=request_id,
            extra={"task": str(task.pk)},
        )
    body = {
        "response": task.result,
        "model": task.model,
        "cached": False,
        "session": str(task.session_id) if task.session_id else None,
        "task": str(task.pk),
        "truncated": task.is_truncated,
        "degraded": task.is_degraded,
    }
    return HttpResponse(json.dumps(body), content_type="application/json")


def _ask_later(task_id: uuid.UUID, request_id: str) -> HttpResponse:
    response = problems.response(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        code="database-unavailable",
        title="The database is busy or away",
        detail="The task was accepted and has ended. Ask for it in a moment.",
        request_id=request_id,
        extra={"task": str(task_id)},
    )
    response["Retry-After"] = str(problems.DATABASE_RETRY_SECONDS)
    return response
