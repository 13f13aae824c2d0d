"""The addresses of the gateway: OpenAI's below /v1, Ollama's own below /ollama."""

from agents.gateway import door, failures, listings, management, replies, responses
from agents.gateway.calls import BodyRefused, Call, ClientGone
from agents.gateway.door import ModelUnknown
from agents.gateway.failures import Refusal
from agents.gateway.formats import TEXT_FORMATS, VECTOR_FORMATS, ollama_shared, openai_shared
from agents.gateway.formats.base import NO_SUCH_METHOD, NO_SUCH_PAGE, PLAIN, Dialect
from agents.gateway.routes import Routes
from core import logs
from core.api import traces
from core.asgi import Receive, Scope, Send
from core.ops import traffic
from core.ops.threads import in_thread

OPENAI, OLLAMA = "/v1", "/ollama"


def serves(path: str) -> bool:
    """Tell whether an address is the gateway's."""
    return path == OLLAMA or path.startswith((f"{OPENAI}/", f"{OLLAMA}/"))


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose address the gateway serves."""
    path = scope["path"].removeprefix(OLLAMA).rstrip("/") or "/"
    call = Call(scope, receive, send, path)
    is_openai = not scope["path"].startswith(OLLAMA)
    if path.startswith(OPENAI) is not is_openai:
        await call.answer(404, NO_SUCH_PAGE, content_type=PLAIN)
        return
    dialect = openai_shared.DIALECT if is_openai else ollama_shared.DIALECT
    with logs.belonging_to(logs.request_id, call.request_id):
        await _serve_and_tell(call, dialect)


async def _serve_and_tell(call: Call, dialect: Dialect) -> None:
    try:
        await _serve(call)
    except ClientGone:
        pass
    except BodyRefused as error:
        failures.note(error.failure)
        await call.answer(error.failure.status, dialect.error(error.failure), [("Connection", "close")])
    except Refusal as refusal:
        failures.note(refusal.failure)
        await call.answer(refusal.failure.status, dialect.error(refusal.failure), refusal.headers)


async def _serve(call: Call) -> None:
    found = ROUTES.find(call.path)
    if found is None:
        await call.answer(404, NO_SUCH_PAGE, content_type=PLAIN)
        return
    route = found.address if found.address.startswith(OPENAI) else OLLAMA + found.address
    traces.note_route(call.method, route, call.request_id)
    traffic.routed(route)
    handler = found.methods.get(call.method)
    if handler is None:
        await call.answer(405, NO_SUCH_METHOD, content_type=PLAIN)
        return
    try:
        await handler(call, **found.parts)
    except (Refusal, ClientGone, BodyRefused):
        raise
    except Exception as error:
        failure, headers = failures.of_error(error)
        raise Refusal(failure, list(headers.items())) from error


async def _text(call: Call) -> None:
    form = TEXT_FORMATS[call.path]
    body = await call.body()
    try:
        order = await in_thread(door.guarded, call, door.order, call, form, body)
    except ModelUnknown as unknown:
        raise Refusal(form.not_found(unknown.name)) from unknown
    if order.wanted.is_background or (order.is_stored and order.wanted.streams):
        await responses.begin(call, order)
    else:
        await replies.text(call, order, form.encoder)


async def _vectors(call: Call) -> None:
    form = VECTOR_FORMATS[call.path]
    body = await call.body()
    try:
        order = await in_thread(door.guarded, call, door.order, call, form, body)
    except ModelUnknown as unknown:
        raise Refusal(form.not_found(unknown.name)) from unknown
    await replies.vectors(call, order, form.encoder)


# Below the prefix, as the foreign servers have them.
ROUTES = Routes(
    {path: {"POST": _text} for path in TEXT_FORMATS},
    {path: {"POST": _vectors} for path in VECTOR_FORMATS},
    listings.ROUTES,
    responses.ROUTES,
    management.ROUTES,
)
