import pytest

from agents.engine import discovery
from agents.models import Node
from tests.ollama_server.embedded import OllamaTestServer
from tests.services.server import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    with OllamaTestServer(models=["tinyllama:latest"]) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_the_server_that_the_environment_names_is_registered_with_its_models(server, nobody, settings, monkeypatch):
    settings.OLLAMA_HOST = server.url.removeprefix("http://")
    monkeypatch.setattr(discovery, "LOCAL_OLLAMA", nobody)
    node = discovery.find_local()
    assert node is not None
    assert (node.url, node.status) == (server.url, Node.Status.UP)
    assert list(node.places.values_list("name", "is_available")) == [("tinyllama:latest", True)]


def test_where_that_does_not_answer_this_machine_is_asked(server, nobody, settings, monkeypatch):
    settings.OLLAMA_HOST = nobody
    monkeypatch.setattr(discovery, "LOCAL_OLLAMA", server.url)
    node = discovery.find_local()
    assert node is not None
    assert node.url == server.url


def test_where_nobody_answers_nothing_is_registered(nobody, settings, monkeypatch):
    settings.OLLAMA_HOST = ""
    monkeypatch.setattr(discovery, "LOCAL_OLLAMA", nobody)
    assert discovery.find_local() is None
    assert not Node.objects.exists()


def test_a_known_server_is_not_registered_twice(server, settings):
    settings.OLLAMA_HOST = server.url
    assert discovery.find_local() == discovery.find_local()
    assert Node.objects.count() == 1


def test_models_that_are_gone_are_kept_as_not_available(server, settings):
    settings.OLLAMA_HOST = server.url
    node = discovery.find_local()
    assert node is not None
    node.places.create(name="gone:latest", is_available=True)
    assert discovery.refresh(node)
    assert dict(node.places.values_list("name", "is_available")) == {"tinyllama:latest": True, "gone:latest": False}


def test_a_server_that_went_away_is_down_and_says_why(nobody, settings):
    node = Node.objects.create(name="gone", url=nobody, status=Node.Status.UP)
    assert not discovery.refresh(node)
    node.refresh_from_db()
    assert node.status == Node.Status.DOWN
    assert "refused" in node.status_reason.lower()
