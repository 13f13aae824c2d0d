import io
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command

from agents.models import Node
from tests.factories import make_builtin_node, make_node
from tests.ollama_server import OllamaTestServer
from tests.servers import web_server
from tests.services.server import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=["tinyllama:latest"]) as server:
        yield server


def register(name: str, url: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("register_node", name=name, url=url, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_it_registers_a_server_and_reads_its_models(ollama):
    out, err = register("gpu1", ollama.url)
    node = Node.objects.get(name="gpu1")
    assert (node.url, node.status) == (ollama.url, "up")
    assert list(node.places.values_list("name", flat=True)) == ["tinyllama:latest"]
    assert "tinyllama:latest" in out
    assert err == ""


def test_the_same_name_again_moves_to_the_new_address(ollama):
    old = make_node(name="gpu1", slots=7)
    register("gpu1", f"{ollama.url}/")
    node = Node.objects.get()
    assert (node.pk, node.url, node.slots, node.status) == (old.pk, ollama.url, 7, "up")


def test_a_server_that_does_not_answer_is_registered_with_a_warning():
    out, err = register("later", f"127.0.0.1:{free_port()}")
    node = Node.objects.get(name="later")
    assert node.status == "down"
    assert node.status_reason
    assert out == ""
    assert "does not answer" in err


def test_something_that_is_no_ollama_server_is_refused():
    with web_server() as url, pytest.raises(CommandError, match="no Ollama server"):
        register("web", url)
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://user:pw@host", "http://host:99999", "file:///etc"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(CommandError, match="no address"):
        register("bad", url)
    assert not Node.objects.exists()


def test_a_second_name_for_one_server_is_refused(ollama):
    register("gpu1", ollama.url)
    with pytest.raises(CommandError, match="has this address"):
        register("gpu2", ollama.url)
    assert Node.objects.get().name == "gpu1"


def test_the_built_in_node_keeps_its_name(ollama):
    node = make_builtin_node()
    with pytest.raises(CommandError, match="built-in"):
        register(node.name, ollama.url)


@pytest.mark.parametrize("name", ["", "  ", "x" * 61])
def test_a_name_that_is_none_is_refused(ollama, name):
    with pytest.raises(CommandError, match="A name has"):
        register(name, ollama.url)
    assert not Node.objects.exists()
