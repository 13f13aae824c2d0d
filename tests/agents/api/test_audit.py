"""Every unsafe request that changed something is in the audit log, and nothing else is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.urls import URLResolver, get_resolver

from agents.models import Agent, Node
from core.api.audited import AuditedMixin
from core.audit import entries as audit_entries
from core.models import AuditEntry
from tests.api import ApiClient
from tests.factories import make_agent, make_builtin_node, make_node, make_operator, make_session, make_task
from tests.ollama_server import OllamaTestServer

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def operator() -> ApiClient:
    make_builtin_node()
    client = ApiClient(make_operator(username="op"))
    AuditEntry.objects.all()._raw_delete("default")
    return client


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=["tinyllama:latest"]) as server:
        yield server


def told() -> list[tuple[str, dict[str, list[object]]]]:
    rows = AuditEntry.objects.order_by("id")
    assert {row.actor_name for row in rows} <= {"op"}
    assert all(row.credential.startswith("api-key stz_") for row in rows)
    return [(row.action, row.changes) for row in rows]


# A message is recorded by its task; signing in and out, and what is done to the cache, is told by the services.
UNAUDITED = {"ChatView", "SignInView", "RefreshView", "SignOutView", "InvalidateView", "ClearView"}


def _views(patterns: list[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns)
        else:
            yield pattern.callback


def test_every_unsafe_route_of_the_api_is_audited():
    unsafe = {"post", "put", "patch", "delete"}
    found = set()
    for view in _views(get_resolver().url_patterns):
        cls = getattr(view, "cls", None)
        methods = set(getattr(view, "actions", None) or (name for name in unsafe if hasattr(cls, name)))
        if cls is not None and methods & unsafe and not issubclass(cls, AuditedMixin):
            found.add(cls.__name__)
    assert found == UNAUDITED


def test_agents_made_and_changed(operator):
    made = operator.post("/api/v1/agents/", {"name": "writer", "kind": "chat"}).json()
    operator.patch(f"/api/v1/agents/{made['id']}/", {"is_enabled": False, "description": ""})

    (added, fields), changed = told()
    assert added == "agent.added"
    assert fields["name"] == [None, "writer"]
    assert changed == ("agent.changed", {"is_enabled": [True, False]})


def test_a_change_that_changes_nothing_is_not_told(operator):
    agent = make_agent(operator.user)
    operator.patch(f"/api/v1/agents/{agent.pk}/", {"is_enabled": True})
    assert told() == []


def test_versions_written_and_made_live(operator):
    agent = make_agent(operator.user)
    operator.post(f"/api/v1/agents/{agent.pk}/versions/", {"system_prompt": "Be brief."})
    operator.post(f"/api/v1/agents/{agent.pk}/versions/2/make-live/")

    (added, fields), (live, _) = told()
    assert (added, fields["system_prompt"]) == ("agent-version.added", [None, "Be brief."])
    assert live == "agent-version.make-live"


def test_nodes_made_changed_probed_and_forgotten(operator, ollama):
    made = operator.post("/api/v1/nodes/", {"name": "gpu1", "url": ollama.url}).json()
    operator.patch(f"/api/v1/nodes/{made['id']}/", {"slots": 7})
    operator.post(f"/api/v1/nodes/{made['id']}/probe/")
    operator.delete(f"/api/v1/nodes/{made['id']}/")

    rows = told()
    assert [action for action, _ in rows] == ["node.added", "node.changed", "node.probe", "node.deleted"]
    assert rows[1][1]["slots"][1] == 7
    assert rows[3][1]["name"] == ["gpu1", None]
    assert AuditEntry.objects.get(action="node.deleted").object_id == made["id"]


def test_sessions_begun_and_closed(operator):
    agent = make_agent(operator.user)
    made = operator.post("/api/v1/sessions/", {"agent": agent.name}).json()
    operator.post(f"/api/v1/sessions/{made['id']}/close/")

    (added, _), (closed, fields) = told()
    assert (added, closed) == ("chat-session.added", "chat-session.close")
    assert fields["closed_at"][0] is None


def test_tasks_cancelled_and_retried(operator):
    task = make_task(operator.user)
    operator.post(f"/api/v1/tasks/{task.pk}/cancel/")
    operator.post(f"/api/v1/tasks/{task.pk}/retry/")

    (cancelled, fields), (retried, _) = told()
    assert (cancelled, fields["status"]) == ("agent-task.cancel", ["running", "cancelled"])
    assert retried == "agent-task.retry"


def test_a_task_or_a_message_is_its_own_record(operator):
    agent = make_agent(operator.user)
    assert operator.post("/api/v1/tasks/", {"agent": agent.name, "input": {"message": "hi"}}).status_code == 202
    assert operator.post("/api/v1/chat/", {"agent": agent.name, "message": "hi"}).status_code == 200
    assert told() == []


def test_what_was_refused_as_wrong_is_not_told(operator):
    assert operator.post("/api/v1/agents/", {"name": "", "kind": "chat"}).status_code == 422
    session = make_session(operator.user)
    assert operator.post(f"/api/v1/sessions/{session.pk}/close/", {"x": 1}).status_code == 422
    assert told() == []


def test_the_same_request_again_is_told_once(operator):
    for _ in range(2):
        operator.post("/api/v1/agents/", {"name": "writer", "kind": "chat"}, Idempotency_Key="one")
    assert [action for action, _ in told()] == ["agent.added"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["change", "create", "node"])
def test_without_its_entry_there_is_no_change(operator, ollama, monkeypatch, what):
    """The entry is part of the change's transaction: if it cannot be written, nothing was changed."""
    agent = make_agent(operator.user)

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    monkeypatch.setattr(audit_entries, "columns", fail)
    response = {
        "change": lambda: operator.patch(f"/api/v1/agents/{agent.pk}/", {"is_enabled": False}),
        "create": lambda: operator.post("/api/v1/agents/", {"name": "writer", "kind": "chat"}),
        "node": lambda: operator.post("/api/v1/nodes/", {"name": "gpu1", "url": ollama.url}),
    }[what]()

    assert response.status_code == 503
    agent.refresh_from_db()
    assert agent.is_enabled
    assert Agent.objects.count() == 1
    assert Node.objects.filter(kind="ollama").count() == 0


def test_no_secret_of_a_request_is_told(operator):
    node = make_node()
    operator.patch(f"/api/v1/nodes/{node.pk}/", {"slots": 3})
    key = operator._client.defaults["HTTP_AUTHORIZATION"].rsplit("_", 1)[1]
    assert key not in json.dumps(list(AuditEntry.objects.values()), default=str)
