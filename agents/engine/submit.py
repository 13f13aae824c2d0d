"""Accepting work: check it, write it down, and only then say yes."""

import copy
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Required, TypedDict, Unpack

from django.db import IntegrityError

from agents.engine import admission, charges, operations, routing, traces
from agents.engine.errors import AgentNotReady, DoesNotWait, ModelNotPermitted, NotFinished, SessionClosed
from agents.engine.process import writer
from agents.kinds import KINDS
from agents.kinds.base import Kind
from agents.models import Agent, AgentTask, AgentVersion, ChatMessage, ChatSession
from agents.models.node import canonical_model_name
from agents.ollama.types import JsonObject
from core import idempotency
from core.access.limits.allowances import Level
from core.exceptions import InvalidInput, Refused
from core.idempotency import IdempotencyKey
from core.models import ApiKey, User, uuid7
from core.ops import clock

Priority = AgentTask.Priority

TITLE_CHARACTERS = 80
# How long whoever waits for an answer is kept waiting while the database is locked or away: 5 s with the way to the
# writer, and the try that is under way.
PATIENCE_SECONDS = 4.0


@dataclass(frozen=True)
class Accepted:
    """A task that is written down. is_replay: it was made by an earlier request with the same idempotency key."""

    task_id: uuid.UUID
    is_replay: bool


class Asked(TypedDict, total=False):
    """What a task is asked for with.

    api_key: the key that asks, where one does; its limits count beside those of the owner and the team.
    input: what the kind asks for, such as {"message": …}.
    kind: what is to be done, in place of what the agent does. model: what it is to be done with, in place of the
    version's model.
    session: the conversation to go on with; starts_session begins a new one, for kinds that have them.
    version: a version to try instead of the live one. priority: the class to wait in (see `priorities`).
    allowed_models: what the task may run on; none: any model.
    request_key: equal for requests that may share an answer. reserved_for: the process that waits to run the task.
    levels: what those may use whom the task counts for, where that was looked up before.
    """

    agent: Required[Agent]
    owner: Required[User]
    input: Required[Mapping[str, Any]]
    api_key: ApiKey | None
    kind: Kind
    model: str
    session: ChatSession | None
    starts_session: bool
    version: AgentVersion | None
    priority: Priority
    idempotency_key: IdempotencyKey | None
    retry_of: AgentTask | None
    allowed_models: Collection[str]
    request_key: str
    reserved_for: str
    levels: tuple[Level, ...]


def submit(**asked: Unpack[Asked]) -> Accepted:
    """Accept a task for an agent; when this returns, the task is committed and will end.

    Raises InvalidInput, AgentNotReady, SessionClosed, ModelNotAvailable, ModelNotPermitted, QueueFull, TooManyTasks,
    TokenBudgetExhausted, IdempotencyConflict.
    """
    try:
        submission = prepare(**asked)
    except Refused:
        # What was accepted once stays accepted when its request is repeated, also if it would be refused by now.
        key = asked.get("idempotency_key")
        first = idempotency.find(key) if key else None
        if first is None:
            raise
        return Accepted(task_id=first, is_replay=True)
    try:
        submitted = writer.call(admission.submit, submission, limit_seconds=PATIENCE_SECONDS)
    except IntegrityError as error:
        raise AgentNotReady("The agent or the conversation was deleted meanwhile.") from error
    return Accepted(task_id=submitted.task_id, is_replay=submitted.is_replay)


def prepare(**asked: Unpack[Asked]) -> admission.Submission:
    """Check everything that can be checked before the transaction. Raises as `submit`."""
    agent, owner, session = asked["agent"], asked["owner"], asked.get("session")
    version = asked.get("version") or agent.live_version
    if not agent.is_enabled or version is None:
        raise AgentNotReady(f"The agent {agent.name!r} is disabled or has no live version.")
    kind = asked.get("kind") or KINDS[agent.kind]
    if session is not None:
        _check_session(session, agent, kind)
    cleaned = kind.clean(asked["input"], version)
    model = routing.resolve_model(version, named=asked.get("model", ""))
    allowed_models = asked.get("allowed_models")
    if allowed_models and model not in map(canonical_model_name, allowed_models):
        raise ModelNotPermitted(f"Your key may not use the model {model!r}.")
    begins = asked.get("starts_session") and kind.has_sessions and not session
    new_session = _new_session(agent, owner, cleaned) if begins else None
    conversation = session or new_session
    task = AgentTask.draft(
        {
            "agent": agent,
            "version": version,
            "session": conversation,
            "owner": owner,
            "api_key": asked.get("api_key"),
            "retry_of": asked.get("retry_of"),
        },
        id=uuid7(),
        team_id=owner.team_id,
        kind=kind.name,
        model=model,
        request_key=asked.get("request_key", ""),
        reserved_for=asked.get("reserved_for", ""),
        input=cleaned,
        deadline_at=clock.now() + timedelta(seconds=version.deadline_seconds),
        priority=asked.get("priority", Priority.NORMAL),
    )
    traces.note(task)
    return admission.Submission(
        task=task,
        new_session=new_session,
        message=_message(task, conversation) if conversation else None,
        idempotency_key=asked.get("idempotency_key"),
        charge=charges.charge_for(task, asked.get("levels", ())),
    )


def in_parts(submission: admission.Submission, inputs: Sequence[JsonObject]) -> admission.Submission:
    """Have a call be answered by several tasks, one for each of these inputs. The first remembers the others.

    Nobody else takes part in them, so that they can end with the client who called.
    """
    first = copy.copy(submission.task)
    parts = tuple(copy.copy(first) for _ in inputs[1:])
    for part, asked in zip(parts, inputs[1:], strict=True):
        part.pk, part.input = uuid7(), asked
    first.input = {**inputs[0], "parts": [str(part.pk) for part in parts]}
    return replace(submission, task=first, parts=parts, may_share=False)


def resubmit(
    task: AgentTask,
    *,
    owner: User,
    api_key: ApiKey | None = None,
    idempotency_key: IdempotencyKey | None = None,
    allowed_models: Collection[str] = (),
) -> Accepted:
    """Submit a finished task's input again, as a new task; the old one stays as it ended. Raises as `submit`."""
    if not task.is_finished:
        raise NotFinished("The task is not finished yet; cancel it first.")
    return submit(
        agent=task.agent,
        owner=owner,
        api_key=api_key,
        kind=KINDS[task.kind],
        model="" if task.kind == task.agent.kind else task.model,
        input=task.asked,
        session=task.session if task.session and task.session.closed_at is None else None,
        idempotency_key=idempotency_key,
        retry_of=task,
        priority=max(Priority.NORMAL, Priority(task.priority)),  # nobody waits for this one, nor was it moved up
        allowed_models=allowed_models,
    )


def cancel(task_id: uuid.UUID) -> bool:
    """End a task now; its runner lets go of the model within two seconds. False if it had ended before."""
    return writer.call(operations.cancel, task_id, limit_seconds=PATIENCE_SECONDS)


def prioritise(task_id: uuid.UUID, priority: Priority) -> None:
    """Move a waiting task into another class. Raises DoesNotWait."""
    change = operations.Prioritise(task_id, priority)
    if not writer.call(operations.prioritise, change, limit_seconds=PATIENCE_SECONDS):
        raise DoesNotWait


def _check_session(session: ChatSession, agent: Agent, kind: Kind) -> None:
    if not kind.has_sessions:
        raise InvalidInput({"session": [f"Agents of the kind {kind.name!r} have no conversations."]})
    if session.agent_id != agent.pk:
        raise SessionClosed("The conversation belongs to another agent.")
    if session.closed_at is not None:
        raise SessionClosed("The conversation was closed. Begin a new one.")


def _new_session(agent: Agent, owner: User, cleaned: Mapping[str, Any]) -> ChatSession:
    title = " ".join(str(cleaned.get("message", "")).split())[:TITLE_CHARACTERS]
    return ChatSession(
        id=uuid7(),
        agent=agent,
        title=title,
        owner=owner,
        team_id=owner.team_id,  # type: ignore[misc]  # keys with a default look optional to the stubs
    )


def _message(task: AgentTask, session: ChatSession) -> ChatMessage:
    return ChatMessage(
        id=uuid7(), session=session, task=task, role=ChatMessage.Role.USER, content=task.input["message"]
    )
