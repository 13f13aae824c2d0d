"""Responses that clients come back for: asked for by their id, resumed at any number, cancelled."""

import uuid
from http import HTTPStatus
from urllib.parse import parse_qsl

from agents.engine import answers, lane
from agents.engine.admission import Submitted
from agents.engine.submit import cancel
from agents.gateway import door, failures, replies
from agents.gateway.calls import Call
from agents.gateway.door import Caller, Order
from agents.gateway.failures import Refusal
from agents.gateway.formats import openai_responses
from agents.gateway.formats.base import Failure
from agents.gateway.formats.openai_responses import Retrieval
from agents.gateway.formats.openai_responses_encoder import ResponsesEncoder
from agents.gateway.replies import Wait
from agents.gateway.routes import Table
from agents.kinds.model_call import ModelCall
from agents.models import AgentTask
from core.access import ownership
from core.models import Verb
from core.ops.threads import in_thread


async def begin(call: Call, order: Order) -> None:
    """Take a call whose client will come back: the answer tells the id, or is the stream."""
    submitted = await lane.submit(order.submission)
    encoder = ResponsesEncoder(order.identity(submitted), order.wanted.shape)
    if submitted.is_replay:
        await _give(call, order.caller, submitted.task_id, encoder, streams=order.wanted.streams)
        return
    replies.in_background(lane.answer(order.submission, submitted))
    if order.wanted.streams:
        await _follow(call, order, submitted, encoder)
    else:
        await call.answer(200, encoder.retrieved("queued"), order.caller.headers)


async def _follow(call: Call, order: Order, submitted: Submitted, encoder: ResponsesEncoder) -> None:
    """Send a response as it is written down, not as it is made: the numbers of its events come from there."""
    wait: Wait[lane.Answer] = Wait(call, order.caller)
    try:
        if not order.wanted.is_background:
            wait.attend(order.submission, submitted)
        wait.work(lane.listen(submitted.task_id, wait.hear, skips_void=False))
        await replies.stream(call, order.caller, encoder, wait)
    finally:
        wait.close(lets_go_on=False)


async def _retrieve(call: Call, response_id: str) -> None:
    caller, task, wanted = await in_thread(door.guarded, call, _wanted, call, response_id)
    client = task.input["client"]
    after = wanted.after if wanted.streams else None
    encoder = ResponsesEncoder(door.identity_of(task.pk, client["model"]), client["shape"], after=after)
    await _give(call, caller, task.pk, encoder, streams=wanted.streams)


async def _give(call: Call, caller: Caller, task_id: uuid.UUID, encoder: ResponsesEncoder, *, streams: bool) -> None:
    """Give a response to whoever comes back for it: as it stands now, or what came and what still comes."""
    if not streams:
        body = await in_thread(_as_it_stands, task_id, encoder)
        await call.answer(200, body, [*caller.headers, *replies.WHOLE_HEADERS])
        return
    pieces, last_number = await in_thread(answers.history, task_id)
    wait: Wait[lane.Answer] = Wait(call, caller)
    try:
        wait.work(lane.listen(task_id, wait.hear, after=last_number))
        await replies.stream(call, caller, encoder, wait, written=encoder.history(pieces))
    finally:
        wait.close(lets_go_on=False)


def _wanted(call: Call, response_id: str) -> tuple[Caller, AgentTask, Retrieval]:
    caller = door.enter(call, Verb.READ)
    query = dict(parse_qsl(call.scope["query_string"].decode("latin-1")))
    return caller, _task(caller, response_id), openai_responses.parse_retrieval(query)


def _task(caller: Caller, response_id: str) -> AgentTask:
    """Find a response's task among the caller's own. Raises CallRefused."""
    principal, task_id = caller.principal, openai_responses.task_id(response_id)
    own = ownership.own(AgentTask.objects.filter(kind=ModelCall.name), principal).select_related("agent")
    task = own.filter(pk=task_id).first()
    if task is None or "client" not in task.input or not principal.may_use_agent(task.agent.name):
        raise Refusal(Failure(status=404, message=f"Response with id '{response_id[:80]}' not found."))
    return task


def _as_it_stands(task_id: uuid.UUID, encoder: ResponsesEncoder) -> bytes:
    """Write a response as its task stands now."""
    ended = answers.read(task_id)
    status = openai_responses.STATUS_OF_TASK[ended.status]
    chunks = [answers.whole(task_id)]
    if ended.has_answer:
        chunks.append(ended.last)
    failure = failures.of_task(ended) if ended.error_code else None
    return encoder.retrieved(status, chunks, truth=replies.truth_of(ended), failure=failure)


async def _cancel(call: Call, response_id: str) -> None:
    caller, task_id = await in_thread(door.guarded, call, _cancelled, call, response_id)
    encoder = await in_thread(_encoder, task_id)
    await call.answer(HTTPStatus.OK, await in_thread(_as_it_stands, task_id, encoder), caller.headers)


def _cancelled(call: Call, response_id: str) -> tuple[Caller, uuid.UUID]:
    caller = door.enter(call, Verb.SUBMIT)
    task = _task(caller, response_id)
    cancel(task.pk)
    return caller, task.pk


def _encoder(task_id: uuid.UUID) -> ResponsesEncoder:
    client = AgentTask.objects.values_list("input", flat=True).get(pk=task_id)["client"]
    return ResponsesEncoder(door.identity_of(task_id, client["model"]), client["shape"])


ROUTES: Table = {
    f"{door.RESPONSES}/{{response_id}}": {"GET": _retrieve},
    f"{door.RESPONSES}/{{response_id}}/cancel": {"POST": _cancel},
}
