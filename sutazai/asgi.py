"""The web process: a small dispatcher in front of Django.

1. /health is answered here, from memory, and so are static files, and requests that are too large or too slow.
2. Clients of Ollama and OpenAI are answered by the gateway, whose lane runs their calls on this event loop.
3. Everything else goes to Django, which runs as a WSGI application in a bounded pool of threads that keep their
   database connections: half the CPU of Django's own ASGI handler.
4. Where Django's answer asks to follow a task, the dispatcher does so on the event loop, without a thread.

A request's body is read before a thread is taken, so slow senders hold none, and they have SUTAZAI_BODY_SECONDS.
Where more is asked than the threads can answer, some are refused at once: see core/api/shedding.py.
"""

import asyncio
import os
import uuid

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sutazai.settings")

from django.conf import settings
from django.db import close_old_connections
from django.http import HttpResponse

from core.ops.processes import die_with_parent
from sutazai.wsgi import application as django_application

# After django_application: that sets Django up.
from agents.api import streams  # isort: skip
from agents.engine import service  # isort: skip
from agents.gateway import asgi as gateway  # isort: skip
from core import cache, tracing  # isort: skip
from core.access.watch import Holder, while_wanted  # isort: skip
from core.api import audit, early, framing, problems, shedding, static_files, traces  # isort: skip
from core.api.bridge import Answer, Bridge  # isort: skip
from core.api.headers import NOTHING  # isort: skip
from core.api.request_id import choose  # isort: skip
from core.api.traffic import note_route_of  # isort: skip
from core.asgi import Receive, Scope, Send  # isort: skip
from core.audit import sealer  # isort: skip
from core.models import Process  # isort: skip
from core.ops import health, metrics, pools, sightings, slow_queries, traffic  # isort: skip
from core.ops.alerts import watch  # isort: skip
from core.ops.heartbeat import heartbeat  # isort: skip
from core.postgresql import pool as database_pool  # isort: skip

die_with_parent()

# What Django's answer asks the dispatcher to do is for nobody else to read.
FOLLOW, AWAIT, HOLDER = streams.FOLLOW_HEADER, streams.AWAIT_HEADER, streams.HOLDER_HEADER
OWN_HEADERS = frozenset({*(name.lower().encode() for name in (FOLLOW, AWAIT, HOLDER)), b"content-length"})
MAX_INSTANCE = 500  # characters of an address that a problem repeats
JSON_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", NOTHING.encode()),
]
SIGNED_OUT = problems.Problem(
    401,
    "not-authenticated",
    "The credentials are not valid any more",
    "The key or the sign-in ended while the answer was awaited. The task goes on.",
)
BUSY = problems.Problem(
    503,
    "busy",
    "The server has too much to do",
    "Nothing was changed. Try again in a moment.",
    retry_after_seconds=problems.DATABASE_RETRY_SECONDS,
)

_static_files = static_files.collected(settings.STATIC_ROOT, settings.STATIC_URL)
_django = Bridge(django_application, settings.WEB_THREADS)
_threads = shedding.Threads(settings.WEB_THREADS, settings.POOL_WAIT_SECONDS)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        await traffic.counted(_http, scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1000})


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    tracing.start("web")
    database_pool.keep_ready()
    service.start()
    health.start()
    sealer.start()
    sightings.start()
    cache.start()
    pools.start(pools.WEB, _threads.reading)
    slow_queries.start()
    metrics.serve_on_own_port()
    watch.start()
    heartbeat.start(Process.Role.WEB, threads=settings.WEB_THREADS)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.to_thread(heartbeat.stop)
    await asyncio.to_thread(service.stop)
    await asyncio.to_thread(sightings.stop)
    await asyncio.to_thread(sealer.stop)
    await asyncio.to_thread(tracing.stop)
    await send({"type": "lifespan.shutdown.complete"})


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"].rstrip("/")
    if problem := framing.refusal(scope):
        await _refuse(scope, send, problem)
    elif path in {"/health", "/api/health"}:
        traffic.routed("health")
        await _tell_health(scope, send, 200, health.liveness_body())
    elif path in {"/health/ready", "/api/health/ready"}:
        traffic.routed("health-ready")
        await _tell_health(scope, send, *health.readiness_body())
    elif gateway.serves(scope["path"]):
        await traces.traced(gateway.serve, scope, receive, send)
    elif (file := _static_files.get(scope["path"])) and scope["method"] in {"GET", "HEAD"}:
        traffic.routed("static")
        await static_files.answer(scope, send, file)
    else:
        await traces.traced(_through_django, scope, receive, send)


async def _tell_health(scope: Scope, send: Send, status: int, body: bytes) -> None:
    if any(name == b"origin" for name, _ in scope["headers"]):  # a page of another origin asks
        response = early.dress(scope, HttpResponse(body, status=status, content_type="application/json"))
        response["Cache-Control"] = "no-store"
        await _send(send, status, _headers(response), body)
    else:
        await _send(send, status, JSON_HEADERS, body)


async def _refuse_routed(scope: Scope, send: Send, problem: problems.Problem, *, closes: bool = True) -> None:
    """Refuse a request that was on its way to Django, which would have told its route."""
    note_route_of(scope["path"])
    await _refuse(scope, send, problem, closes=closes)


async def _refuse(
    scope: Scope, send: Send, problem: problems.Problem, *, request_id: str = "", closes: bool = True
) -> None:
    """Refuse a request without Django's help. closes: the connection, on which more of the request may come."""
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    request_id = request_id or choose(given.decode("latin-1"))
    response = problems.response(
        status=problem.status,
        code=problem.code,
        title=problem.title,
        detail=problem.detail,
        request_id=request_id,
        instance=scope["path"][:MAX_INSTANCE],
    )
    response["X-Request-Id"] = request_id
    for name, value in problem.all_headers().items():
        response[name] = value
    early.dress(scope, response)
    await _send(send, response.status_code, _headers(response), response.content, closes=closes)


class _BodyTooLarge(Exception):
    """A request's body has more bytes than a request may have."""


class _ClientGone(Exception):
    """The connection ended before the request was whole."""


async def _through_django(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        async with asyncio.timeout(settings.BODY_SECONDS):
            body = await _read_body(receive)
    except _BodyTooLarge:
        detail = f"A request's body may have {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
        await _refuse_routed(scope, send, problems.Problem(413, "body-too-large", "The request is too large", detail))
        return
    except TimeoutError:
        detail = f"A request's body must arrive within {settings.BODY_SECONDS:g} seconds."
        await _refuse_routed(
            scope, send, problems.Problem(408, "body-too-slow", "The request came too slowly", detail)
        )
        return
    except _ClientGone:
        note_route_of(scope["path"])
        return  # half a request must not pass for a whole one
    try:
        async with _threads.one_for(scope["method"], scope["path"]):
            answer = await _django.ask(scope, body, send)
    except shedding.NoThread:
        await _refuse_routed(scope, send, BUSY, closes=False)
        return
    if answer:
        await _pass_on(answer, scope, receive, send)


async def _pass_on(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send what Django answered, or what it asks to be sent instead of it."""
    if task := answer.header(FOLLOW):
        await send({"type": "http.response.start", "status": answer.status, "headers": _without_own(answer)})
        await while_wanted(_stream(task, send), Holder.read(answer.header(HOLDER)), _disconnected(receive))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif task := answer.header(AWAIT):
        work = _answer_later(task, answer, send)
        if not await while_wanted(work, Holder.read(answer.header(HOLDER)), _disconnected(receive)):
            await asyncio.to_thread(_note_signed_out, scope, answer)
            await _refuse(scope, send, SIGNED_OUT, request_id=_request_id(answer))
    else:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _read_body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise _BodyTooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _stream(task: str, send: Send) -> None:
    task_id, after = task.split()
    async for piece in streams.event_stream(uuid.UUID(task_id), int(after)):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _answer_later(task: str, answer: Answer, send: Send) -> None:
    task_id = uuid.UUID(task)
    await streams.wait_for_end(task_id)
    response = await asyncio.to_thread(_render, task_id, _request_id(answer))
    kept = [item for item in _without_own(answer) if item[0] != b"content-type"]
    await _send(send, response.status_code, kept + _headers(response), response.content)


def _request_id(answer: Answer) -> str:
    return answer.header("X-Request-Id")


def _without_own(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [item for item in answer.headers if item[0] not in OWN_HEADERS]


def _render(task_id: uuid.UUID, request_id: str) -> HttpResponse:
    try:
        return streams.answer(task_id, request_id)
    finally:
        close_old_connections()


def _note_signed_out(scope: Scope, answer: Answer) -> None:
    try:
        audit.note_signed_out(early.request_of(scope), Holder.read(answer.header(HOLDER)), _request_id(answer))
    finally:
        close_old_connections()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, closes: bool = False
) -> None:
    length = [(b"content-length", str(len(body)).encode())]
    ending = [(b"connection", b"close")] if closes else []
    await send({"type": "http.response.start", "status": status, "headers": headers + length + ending})
    await send({"type": "http.response.body", "body": body, "more_body": False})
