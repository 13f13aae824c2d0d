"""Rows with valid defaults, so that a test states only what matters."""

import itertools
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission
from django.utils import timezone

from agents.engine.discovery import ensure_builtin
from agents.engine.submit import submit
from agents.models import Agent, AgentTask, ChatSession, Node, NodeModel
from core.access import api_keys
from core.models import (
    Alert,
    Lease,
    Notification,
    Process,
    Role,
    SlowQuery,
    Team,
    User,
    Webhook,
    WebhookDelivery,
    alert_about,
)
from core.net import breakers
from core.notifications.events import for_webhooks
from core.notifications.webhooks import sending, signatures
from core.ops import clock, heartbeat
from core.ops.alerts import rules
from core.ops.sql_text import fingerprint

_numbers = itertools.count(1)


def make_team(**fields: Any) -> Team:
    number = next(_numbers)
    return Team.objects.create(**{"name": f"Team {number}", "slug": f"team-{number}", **fields})


def make_user(**fields: Any) -> User:
    """A person of the default team, who cannot sign in by password unless one is given."""
    password = fields.pop("password", None)
    return User.objects.create_user(fields.pop("username", f"person-{next(_numbers)}"), password=password, **fields)


def make_operator(**fields: Any) -> User:
    return make_user(**{"role": Role.OPERATOR, **fields})


def make_administrator(**fields: Any) -> User:
    return make_user(**{"role": Role.ADMINISTRATOR, **fields})


def make_staff(*permissions: str, **fields: Any) -> User:
    """Somebody who may sign in to the console and has these permissions alone, such as "view_agenttask"."""
    person = make_operator(**fields)
    person.groups.clear()
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return person


def make_api_key(user: User) -> str:
    """A working key's text."""
    return api_keys.issue(user)[1]


def make_notification(person: User, title: str = "New sign-in", **fields: Any) -> Notification:
    """Something that a person was told in the product and has not read."""
    defaults = {"event": "new-sign-in", "link": "/account/", "created_at": timezone.now()}
    return Notification.objects.create(person=person, title=title, **{**defaults, **fields})


def make_webhook(url: str = "https://hooks.example/T0/B0", **fields: Any) -> Webhook:
    """A webhook that is told of everything."""
    defaults = {
        "name": f"room-{next(_numbers)}",
        "events": [event.name for event in for_webhooks()],
        "secret": signatures.new_secret(),
        "made_by": "op",
    }
    return Webhook.objects.create(url=url, **{**defaults, **fields})


def make_delivery(webhook: Webhook, title: str = "Alert: The node gpu-1 is lost", **fields: Any) -> WebhookDelivery:
    """Something that a webhook is to be told now."""
    message = sending.Message(title, "/admin/", "What runs there is lost.")
    delivery = sending.row(webhook.pk, "alert", message, timezone.now())
    for name, value in fields.items():
        setattr(delivery, name, value)
    delivery.save(force_insert=True)
    return delivery


def make_alert(name: str = "NodeLost", **fields: Any) -> Alert:
    """Something that is wrong, of a rule that there is, and that operators were told of."""
    now = timezone.now()
    labels = {"node": f"gpu-{next(_numbers)}"} if name == "NodeLost" else {}
    rule = rules.find(name)
    assert rule is not None
    defaults = {
        "labels": labels,
        "about": alert_about(fields.get("labels", labels)),
        "title": rule.title_for(fields.get("labels", labels)),
        "severity": rule.severity,
        "value": 0,
        "limit": 1,
        "since": now,
        "fired_at": now,
        "told_at": now,
    }
    return Alert.objects.create(name=name, **{**defaults, **fields})


def make_builtin_node() -> Node:
    """The built-in model, on which every agent without a model of its own can run."""
    return ensure_builtin()


def make_node(*, models: tuple[str, ...] = (), is_down: bool = False, **fields: Any) -> Node:
    """An Ollama server that nobody probed; `models` are on it. is_down: its breaker is open."""
    number = next(_numbers)
    defaults = {"name": f"node-{number}", "url": f"http://node-{number}.invalid:11434", "status": Node.Status.UP}
    node = Node.objects.create(**{**defaults, **fields})
    for name in models:
        NodeModel.objects.create(node=node, name=name, capabilities=["completion"])
    if is_down:
        Node.objects.filter(pk=node.pk).update(status=Node.Status.DOWN)
        breakers.failed(node.breaker_id, "connection refused", is_certain=True)
        node.refresh_from_db()
    return node


def make_agent(owner: User | None = None, *, content: dict[str, Any] | None = None, **fields: Any) -> Agent:
    """An agent with a live version 1; `content` are fields of the version."""
    owner = owner or make_user()
    defaults = {"name": f"agent-{next(_numbers)}", "kind": "chat", "owner": owner, "team_id": owner.team_id}
    agent = Agent.objects.create(**{**defaults, **fields})
    agent.make_live(agent.add_version(created_by=owner, **(content or {})))
    return agent


def make_session(owner: User, agent: Agent | None = None, **fields: Any) -> ChatSession:
    now = clock.now()
    defaults = {"created_at": now, "last_active_at": now, "team_id": owner.team_id}
    return ChatSession.objects.create(agent=agent or make_agent(owner), owner=owner, **{**defaults, **fields})


def make_task(owner: User, agent: Agent | None = None, *, message: str = "Hello", **more: Any) -> AgentTask:
    """A task as `submit` accepts it: queued, or granted where a node has a free slot. Needs a node for its model."""
    agent = agent or make_agent(owner)
    name = "message" if agent.kind == "chat" else "text"
    accepted = submit(agent=agent, owner=owner, input={name: message}, **more)
    return AgentTask.objects.get(pk=accepted.task_id)


def make_process(
    identity: str = "", *, role: str = "worker", heard: timedelta = timedelta(), **fields: Any
) -> Process:
    """A process of another machine that was heard of so long ago."""
    identity = identity or f"gpu-{next(_numbers)}:0:0/4711/1"
    now = clock.now()
    until = now - heard + timedelta(seconds=heartbeat.ALIVE_SECONDS)
    Lease.objects.create(name=heartbeat.row_name(role, identity), holder=identity, held_until=until)
    defaults = {"version": settings.VERSION, "started_at": now - timedelta(days=3), "threads": 64}
    return Process.objects.create(identity=identity, role=role, **{**defaults, **fields})


def make_slow_query(text: str = "SELECT 1", **fields: Any) -> SlowQuery:
    now = timezone.now()
    defaults = {"work": "task-list", "count": 1, "total_seconds": 0.2, "worst_seconds": 0.2}
    seen = {"first_seen_at": now, "last_seen_at": now}
    return SlowQuery.objects.create(**{"text": text, "fingerprint": fingerprint(text), **defaults, **seen, **fields})
