"""What the agents' pages of the console leave in the audit log."""

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from agents.models import Agent
from core.audit import denials
from core.audit import entries as audit_entries
from core.models import AuditEntry, User
from tests.factories import make_agent, make_node, make_staff, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def person(console: Client) -> Client:
    AuditEntry.objects.all()._raw_delete("default")
    return console


def told() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "object_name"))


def test_a_button_is_told_with_what_it_changed(person):
    node = make_node(name="gpu1")
    person.post(reverse("admin:agents_node_drain", args=[node.pk]))

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_name, entry.actor_name) == ("node.drain", "gpu1", "op")
    assert entry.changes == {"is_draining": [False, True]}


def test_an_action_is_told_for_each_row(person):
    nodes = [make_node(name="gpu1"), make_node(name="gpu2", is_draining=True)]
    data = {"action": "drain_selected", "_selected_action": [str(node.pk) for node in nodes]}
    person.post(reverse("admin:agents_node_changelist"), data)

    changes = dict(AuditEntry.objects.values_list("object_name", "changes"))
    assert changes == {"gpu1": {"is_draining": [False, True]}, "gpu2": {}}
    assert {action for action, _ in told()} == {"node.drain-selected"}


@pytest.mark.parametrize("way", ["button", "action"])
def test_a_probe_is_told(person, way):
    node = make_node(name="gpu1", url="http://127.0.0.1:9")
    if way == "button":
        person.post(reverse("admin:agents_node_probe", args=[node.pk]))
    else:
        data = {"action": "probe_selected", "_selected_action": [str(node.pk)]}
        person.post(reverse("admin:agents_node_changelist"), data)

    assert told() == [("node.probe" if way == "button" else "node.probe-selected", "gpu1")]


@pytest.mark.django_db(transaction=True)
def test_without_its_entry_a_button_or_action_changes_nothing(person, monkeypatch):
    node = make_node(name="gpu1")

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    monkeypatch.setattr(audit_entries, "columns", fail)
    person.raise_request_exception = False
    data = {"action": "drain_selected", "_selected_action": [str(node.pk)]}
    assert person.post(reverse("admin:agents_node_drain", args=[node.pk])).status_code >= 500
    assert person.post(reverse("admin:agents_node_changelist"), data).status_code >= 500

    node.refresh_from_db()
    assert not node.is_draining


def test_tasks_cancelled_and_retried_are_told(person, operator: User):
    task = make_task(operator, make_agent(operator))
    person.post(reverse("admin:agents_agenttask_cancel", args=[task.pk]))
    person.post(reverse("admin:agents_agenttask_retry", args=[task.pk]))

    assert [action for action, _ in told()] == ["agent-task.cancel", "agent-task.retry"]
    cancelled = AuditEntry.objects.order_by("id").first()
    assert cancelled.changes["status"] == ["running", "cancelled"]


def test_a_new_agent_and_its_versions_are_told(person):
    version = {
        "system_prompt": "Be brief.",
        "options": "{}",
        "max_message_characters": "1000",
        "deadline_seconds": "60",
        "truncation": "reject",
        "note": "",
        "model": "",
    }
    page = reverse("admin:agents_agent_add")
    person.post(page, {"name": "writer", "kind": "chat", "description": "", **version})
    agent = Agent.objects.get(name="writer")
    person.post(reverse("admin:agents_agent_new_version", args=[agent.pk]), {**version, "system_prompt": "Be long."})
    person.post(reverse("admin:agents_agent_make_live", args=[agent.pk, 2]))

    assert [action for action, _ in told()] == ["agent.added", "agent.changed", "agent.changed"]
    added, written, live = AuditEntry.objects.order_by("id")
    assert added.changes["name"] == [None, "writer"]
    assert written.detail == "Wrote version 2."
    assert live.detail == "Made version 2 live."
    assert "live_version_id" in live.changes


def test_what_somebody_may_not_press_is_told_as_refused():
    node = make_node()
    client = Client()
    client.force_login(make_staff(username="clerk"))
    path = reverse("admin:agents_node_drain", args=[node.pk])
    client.post(path)
    denials.flush()

    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.object_name, entry.actor_name) == (path, "clerk")
