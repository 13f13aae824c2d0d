"""Rows for the engine's tests, with defaults that are valid; a test names only what it is about."""

import itertools
import uuid
from typing import Any

from django.utils import timezone

from agents.engine.submit import submit
from agents.models import Agent, AgentTask, AgentVersion, Node, NodeModel
from core.idempotency import IdempotencyKey
from core.models import User

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


def make_version(agent: Agent, **content: Any) -> AgentVersion:
    return agent.add_version(created_by=agent.owner, **{"model": MODEL, **content})


def submit_task(agent: Agent, message: str = "hello", **arguments: Any) -> AgentTask:
    """Submit a message as the agent's owner; returns the row."""
    accepted = submit(agent=agent, owner=agent.owner, input={"message": message}, **arguments)
    return AgentTask.objects.get(pk=accepted.task_id)


def make_key(key: str = "", body: str = "body") -> IdempotencyKey:
    return IdempotencyKey(principal="1", route="tasks.create", key=key or str(uuid.uuid4()), body_hash=body)
