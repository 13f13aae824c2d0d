"""Models on nodes: the list, and the window that operators pin."""

import pytest
from django.test import Client
from django.urls import reverse

from agents.models import NodeModel
from core.models import AuditEntry
from tests.factories import make_node, make_staff

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def place() -> NodeModel:
    return make_node(models=["tinyllama:latest"]).places.get()


def page(place: NodeModel) -> str:
    return reverse("admin:agents_nodemodel_change", args=[place.pk])


def test_the_list_tells_what_is_loaded_and_where(console: Client, place: NodeModel) -> None:
    NodeModel.objects.update(is_loaded=True, loaded_context_tokens=4096)
    text = console.get(reverse("admin:agents_nodemodel_changelist")).text
    for told in ("tinyllama:latest", place.node.name, "Loaded", "4,096 tokens"):
        assert told in text


def test_a_pinned_window_is_kept_and_audited(console: Client, place: NodeModel) -> None:
    console.post(page(place), {"pinned_context_tokens": "8192", "name": "another", "is_available": ""})
    place.refresh_from_db()
    assert (place.pinned_context_tokens, place.name, place.is_available) == (8192, "tinyllama:latest", True)
    entry = AuditEntry.objects.get(action="node-model.changed")
    assert entry.changes == {"pinned_context_tokens": [None, 8192]}
    assert "8192 tokens" in console.get(reverse("admin:agents_node_change", args=[place.node_id])).text


@pytest.mark.parametrize("window", ["0", "-1", "many"])
def test_a_window_is_a_number_of_tokens(console: Client, place: NodeModel, window: str) -> None:
    response = console.post(page(place), {"pinned_context_tokens": window})
    assert response.status_code == 200
    place.refresh_from_db()
    assert place.pinned_context_tokens is None


def test_who_may_only_look_pins_nothing(client: Client, place: NodeModel) -> None:
    client.force_login(make_staff("view_nodemodel"))
    assert "tinyllama" in client.get(page(place)).text
    assert client.post(page(place), {"pinned_context_tokens": "8192"}).status_code == 403
    place.refresh_from_db()
    assert place.pinned_context_tokens is None
