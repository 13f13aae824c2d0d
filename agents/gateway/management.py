"""Ollama's calls that change which models nodes have, for keys whose scope names the right to it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from django.conf import settings

from agents.engine import installation
from agents.engine.errors import ModelNotPermitted
from agents.engine.installation import Steps
from agents.gateway import direct, door, failures
from agents.gateway.calls import Call, Headers
from agents.gateway.door import Caller
from agents.gateway.failures import Refusal
from agents.gateway.formats import ollama_management
from agents.gateway.formats.base import NDJSON, Failure
from agents.gateway.formats.ollama_management import Change
from agents.gateway.formats.ollama_shared import DIALECT
from agents.gateway.replies import SIGNED_OUT, STREAM_HEADERS
from agents.gateway.routes import Handler, Table
from agents.models import Node
from agents.models.node import canonical_model_name
from agents.ollama.types import JsonObject, Progress
from core.access.watch import while_wanted
from core.models import Verb
from core.net.interrupts import Interrupt
from core.ops.threads import Helpers, in_thread

NODE_HEADER = "x-sutazai-node"

# Each takes a thread for as long as it lasts, which may be hours.
MOST_AT_ONCE = 16
RETRY_SECONDS = 30
_threads = Helpers("model-management", MOST_AT_ONCE)
_under_way: set[object] = set()


def _enter(call: Call) -> Caller:
    """Find out who calls, and check that they may manage models. Raises what `failures.of_error` reads."""
    caller = door.enter(call, Verb.MODELS)
    if not caller.principal.may_use_agent(direct.agent_for(caller.principal.user).name):
        raise ModelNotPermitted("Your key is for agents, and may not manage models.")
    return caller


def _check_models(caller: Caller, *models: str) -> None:
    """Raises ModelNotPermitted for a model that is not among those that a key is limited to."""
    allowed = set(map(canonical_model_name, caller.principal.model_names))
    for model in models:
        if allowed and canonical_model_name(model) not in allowed:
            raise ModelNotPermitted(f"Your key may not manage the model {model!r}.")


def _named(call: Call) -> str:
    """The node that a call is for; empty if it names none. Names go through headers as UTF-8."""
    return call.headers.get(NODE_HEADER, "").strip().encode("latin-1").decode("utf-8", "replace")


@contextmanager
def _room() -> Iterator[None]:
    """Have a thread for as long as it takes. Raises Refusal."""
    if len(_under_way) >= MOST_AT_ONCE:
        text = f"{MOST_AT_ONCE} changes of models are under way already. Try again later."
        busy = Failure(status=HTTPStatus.SERVICE_UNAVAILABLE, message=text, code="too-many-changes")
        raise Refusal(busy, [("Retry-After", str(RETRY_SECONDS))])
    mark = object()
    _under_way.add(mark)
    try:
        yield
    finally:
        _under_way.discard(mark)


def _headers(caller: Caller, *nodes: Node) -> Headers:
    return [*caller.headers, ("X-SutazAI-Node", ", ".join(node.name for node in nodes))]


# Step by step -------------------------------------------------------------------------------------------------------


@dataclass
class _Relay:
    """Sends the steps of a change on, as its node tells of them."""

    call: Call
    caller: Caller
    node: Node
    steps: Steps
    streams: bool
    has_begun: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def run(self) -> None:
        """Raises Refusal where nothing was sent yet."""
        if not await while_wanted(self._send(), self.caller.holder, self.call.disconnected()):
            await self._fail(SIGNED_OUT)

    async def _send(self) -> None:
        last: Progress | None = None
        try:
            async for last in self._taken():
                if self.streams:
                    await self._line(ollama_management.progress(last))
        except Refusal as refusal:
            if not self.has_begun:
                raise
            await self._fail(refusal.failure)
            return
        if self.has_begun:
            await self.call.write(b"", has_more=False)
        elif last is not None:
            await self.call.answer(200, ollama_management.progress(last), self._headers())

    async def _taken(self) -> AsyncIterator[Progress]:
        """Take the steps in a thread, one by one, and each when the client has the one before."""
        while (step := await _threads(door.guarded, self.call, self._next)) is not None:
            yield step

    def _next(self) -> Progress | None:
        with self._lock:
            return next(self.steps, None)

    def end(self) -> None:
        """Break off what is not done, once no thread takes a step any more."""
        with self._lock:
            self.steps.close()

    async def _line(self, line: bytes) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self.call.begin(200, NDJSON, [*self._headers(), *STREAM_HEADERS])
        await self.call.write(line + b"\n")

    async def _fail(self, failure: Failure) -> None:
        if not self.has_begun:
            raise Refusal(failure)
        failures.note(failure)
        await self.call.write(DIALECT.error(failure) + b"\n", has_more=False)

    def _headers(self) -> Headers:
        return _headers(self.caller, self.node)


def _stepwise(
    parse: Callable[[JsonObject], Change], begin: Callable[[Call, Change, Interrupt], tuple[Node, Steps]]
) -> Handler:
    """Serve a change that goes step by step. begin: chooses the node, and says how its steps come."""

    def begun(call: Call, body: bytes, interrupt: Interrupt) -> _Relay:
        caller = _enter(call)
        change = parse(DIALECT.decode(body))
        _check_models(caller, change.model, *filter(None, [change.settings.get("from")]))
        node, steps = begin(call, change, interrupt)
        return _Relay(call, caller, node, steps, change.streams)

    async def handler(call: Call) -> None:
        body = await call.body()
        interrupt = Interrupt()
        relay = await in_thread(door.guarded, call, begun, call, body, interrupt)
        with _room():
            try:
                await relay.run()
            finally:
                interrupt.shutdown()  # the node goes on for as long as somebody seems to listen
                await _threads(door.guarded, call, relay.end)

    return handler


def _pull(call: Call, change: Change, interrupt: Interrupt) -> tuple[Node, Steps]:
    node = installation.one(_named(call))
    return node, installation.pull(node, change.model, insecure=change.insecure, interrupt=interrupt)


def _push(call: Call, change: Change, interrupt: Interrupt) -> tuple[Node, Steps]:
    node = installation.having(change.model, _named(call))[0]
    return node, installation.push(node, change.model, insecure=change.insecure, interrupt=interrupt)


def _create(call: Call, change: Change, interrupt: Interrupt) -> tuple[Node, Steps]:
    node = installation.one(_named(call))
    return node, installation.create(node, change.model, change.settings, interrupt=interrupt)


# At once ------------------------------------------------------------------------------------------------------------


def _at_once(change: Callable[[Call, Caller, bytes], list[Node]]) -> Handler:
    """Serve a change that is done when it is answered. change: makes it, and returns where."""

    async def handler(call: Call) -> None:
        body = await call.body()
        caller = await in_thread(door.guarded, call, _enter, call)
        with _room():
            nodes = await _threads(door.guarded, call, change, call, caller, body)
        await call.answer(200, b"", _headers(caller, *nodes))

    return handler


def _copy(call: Call, caller: Caller, body: bytes) -> list[Node]:
    source, destination = ollama_management.parse_copy(DIALECT.decode(body))
    _check_models(caller, source, destination)
    nodes = installation.having(source, _named(call))
    installation.copy(nodes, source, destination)
    return nodes


def _delete(call: Call, caller: Caller, body: bytes) -> list[Node]:
    model = ollama_management.parse_delete(DIALECT.decode(body))
    _check_models(caller, model)
    nodes = installation.having(model, _named(call))
    installation.delete(nodes, model)
    return nodes


# Files that models are made of --------------------------------------------------------------------------------------


def _for_file(call: Call) -> tuple[Caller, Node]:
    caller = _enter(call)
    return caller, installation.one(_named(call))


async def _has_blob(call: Call, digest: str) -> None:
    caller, node = await in_thread(door.guarded, call, _for_file, call)
    with _room():
        is_there = await _threads(door.guarded, call, installation.has_blob, node, digest)
    await call.answer(HTTPStatus.OK if is_there else HTTPStatus.NOT_FOUND, b"", _headers(caller, node))


async def _upload(call: Call, digest: str) -> None:
    """Pass a file on as it comes: it may be larger than our memory."""
    interrupt = Interrupt()
    parts = _for_thread(call.parts(settings.BLOB_BYTES, patience=settings.BODY_SECONDS))
    try:
        caller, node = await in_thread(door.guarded, call, _for_file, call)
        with _room():

            async def passed_on() -> None:
                is_new = await _threads(door.guarded, call, installation.upload, node, digest, parts, interrupt)
                await call.answer(HTTPStatus.CREATED if is_new else HTTPStatus.OK, b"", _headers(caller, node))

            if not await while_wanted(passed_on(), caller.holder):
                raise Refusal(SIGNED_OUT)
    except Refusal as refusal:  # the rest of the file is not read
        raise Refusal(refusal.failure, [*refusal.headers, ("Connection", "close")]) from refusal
    finally:
        interrupt.shutdown()


def _for_thread(parts: AsyncIterator[bytes]) -> Iterator[bytes]:
    """Give a thread what comes on this event loop, each part when it is asked for."""
    loop = asyncio.get_running_loop()

    async def following() -> bytes:
        return await anext(parts, b"")

    def taken() -> Iterator[bytes]:
        while part := asyncio.run_coroutine_threadsafe(following(), loop).result():
            yield part

    return taken()


ROUTES: Table = {
    "/api/pull": {"POST": _stepwise(ollama_management.parse_pull, _pull)},
    "/api/push": {"POST": _stepwise(ollama_management.parse_push, _push)},
    "/api/create": {"POST": _stepwise(ollama_management.parse_create, _create)},
    "/api/copy": {"POST": _at_once(_copy)},
    "/api/delete": {"DELETE": _at_once(_delete)},
    "/api/blobs/{digest}": {"HEAD": _has_blob, "POST": _upload},
}
