"""Rows for the engine's tests, with defaults that are valid; a test names only what it is about."""

import itertools
import uuid
from typing import Any

from django.utils import timezone

from agents.engine import operations
from agents.engine.grant import Ticket
from agents.engine.submit import submit
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, AgentVersion, Node, NodeModel
from core.idempotency import IdempotencyKey
from core.models import User
from core.net import breakers
from core.ops import clock

MODEL = "tiny:latest"

_numbers = itertools.count(1)


def make_user(name: str = "") -> User:
    return User.objects.create_user(username=name or f"user{next(_numbers)}")


def make_agent(owner: User | None = None, *, kind: str = "chat", model: str = MODEL, **version: Any) -> Agent:
    owner = owner or make_user()
    agent = Agent.objects.create(name=f"agent{next(_numbers)}", kind=kind, owner=owner, team_id=owner.team_id)
    agent.make_live(agent.add_version(created_by=owner, model=model, **version))
    return agent


def make_node(*models: str, slots: int = 1, **fields: Any) -> Node:
    """A node that is up and has these models (MODEL, if none is named)."""
    number = next(_numbers)
    values = {
        "name": f"node{number:04}",
        "url": f"http://192.0.2.1:{number}",
        "slots": slots,
        "status": Node.Status.UP,
        "status_since": timezone.now(),
        **fields,
    }
    node = Node.objects.create(**values)
    for model in models or [MODEL]:
        NodeModel.objects.create(node=node, name=model, capabilities=["completion"])
    return node


def open_breaker(node: Node, reason: str = "connection refused") -> None:
    """Have a node be known not to work."""
    breakers.failed(node.breaker_id, reason, is_certain=True)


def make_version(agent: Agent, **content: Any) -> AgentVersion:
    return agent.add_version(created_by=agent.owner, **{"model": MODEL, **content})


def submit_task(agent: Agent, message: str = "hello", **arguments: Any) -> AgentTask:
    """Submit a message as the agent's owner; returns the row."""
    accepted = submit(agent=agent, owner=agent.owner, input={"message": message}, **arguments)
    return AgentTask.objects.get(pk=accepted.task_id)


def make_key(key: str = "", body: str = "body") -> IdempotencyKey:
    return IdempotencyKey(principal="1", route="tasks.create", key=key or str(uuid.uuid4()), body_hash=body)


# What a runner does, step by step ------------------------------------------------------------------------------------


def take(task: AgentTask, runner: str = "host/1/1") -> Ticket:
    (ticket,) = apply(operations.take, [operations.Take(task.pk, runner)])
    assert isinstance(ticket, Ticket), "there was nothing to take"
    return ticket


def append(ticket: Ticket, text: str) -> bool:
    (is_written,) = apply(
        operations.append,
        [operations.Append(ticket.task_id, ticket.fence, clock.now(), lambda: {"text": text} if text else {})],
    )
    assert isinstance(is_written, bool)
    return is_written


def succeed(ticket: Ticket, result: str, *, tail: str = "") -> bool:
    """End a run; `tail` is what of the result was not appended yet."""
    end = operations.Finish(
        ticket.task_id,
        ticket.fence,
        AgentTask.Status.SUCCEEDED,
        tail={"text": tail} if tail else {},
        fields={"result": result},
    )
    (finished,) = apply(operations.finish, [end])
    assert isinstance(finished, operations.Finished)
    return finished.is_owner


def send_back(ticket: Ticket, *, counts: str | None = None, delay_seconds: float = 0) -> bool:
    change = operations.SendBack(ticket.task_id, ticket.fence, "again", counts=counts, delay_seconds=delay_seconds)
    (is_owner,) = apply(operations.send_back, [change])
    assert isinstance(is_owner, bool)
    return is_owner
