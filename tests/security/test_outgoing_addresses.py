"""No address that somebody gives us leads to what only we can reach (SSRF). Every connection here is a real one."""

import io
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from agents.engine import discovery
from agents.models import Node
from agents.ollama.client import OllamaClient
from agents.ollama.errors import AddressRefused as NodeRefused
from core.net import addresses
from core.net.calls import Timeouts
from core.net.errors import AddressRefused, InvalidUrl
from tests.api import ApiClient, assert_problem
from tests.factories import make_node, make_operator
from tests.ollama_server import OllamaTestServer
from tests.pools import LoopPool, Pool, get_version, thread_pool
from tests.servers import Canary, web_server

TIMEOUTS = Timeouts(connect=5, write=5, pool=5, first_byte=5, gap=5)
THIS_MACHINE = (ip_network("127.0.0.1/32"),)


@pytest.fixture(params=[thread_pool, LoopPool])
def make_pool(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pool]]:
    """Make pools of either kind: both ways out are guarded."""
    made: list[Pool] = []

    def make(policy: Callable[[], addresses.Policy]) -> Pool:
        made.append(request.param(policy))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool(addresses.external)


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=["tinyllama:latest"]) as server:
        yield server


class NameServer:
    """Answers for every name what it was told, one answer after the other; the last one for good."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.questions = 0

    def resolve(self, host: str, port: int) -> list[addresses.Found]:
        self.questions += 1
        address = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., NameServer]:
    def answer(*answers: str) -> NameServer:
        server = NameServer(*answers)
        monkeypatch.setattr(addresses, "resolve", server.resolve)
        return server

    return answer


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_no_spelling_of_this_machine_is_reached(pool: Pool, canary: Canary, host: str) -> None:
    with pytest.raises((AddressRefused, InvalidUrl)):
        pool.send("GET", f"http://{host}:{canary.port}/", timeouts=TIMEOUTS)
    assert canary.hits() == 0


def test_a_redirect_leads_nowhere(pool: Pool, settings) -> None:
    settings.WEBHOOK_NETWORKS = THIS_MACHINE
    hidden = Canary("127.0.0.2")
    target = f"http://127.0.0.2:{hidden.port}/"
    with web_server(redirect_to=target) as url, pool.send("GET", url, timeouts=TIMEOUTS) as response:
        assert response.status == 307
    assert hidden.hits() == 0
    hidden.close()


def test_a_name_that_changes_its_mind_between_two_calls_is_refused(pool: Pool, names, settings) -> None:
    """Rebinding: the first answer is harmless, the second leads inside."""
    settings.WEBHOOK_NETWORKS = THIS_MACHINE
    hidden = Canary("127.0.0.2")
    harmless = Canary("127.0.0.1")
    asked = names("127.0.0.1", "127.0.0.2")
    with pytest.raises(Exception, match="nothing came"):
        pool.send("GET", f"http://rebinding.example:{harmless.port}/", timeouts=Timeouts(first_byte=0.1))
    assert (asked.questions, harmless.hits()) == (1, 1)  # asked once for its connection, which went there
    with pytest.raises(AddressRefused):
        pool.send("GET", f"http://rebinding.example:{hidden.port}/", timeouts=TIMEOUTS)
    assert hidden.hits() == 0
    harmless.close()
    hidden.close()


def test_a_second_answer_of_the_name_server_changes_nothing(make_pool, names, settings, ollama) -> None:
    """Checked and connected is one and the same answer; the server is still called by its name."""
    settings.NODE_NETWORKS = THIS_MACHINE
    asked = names("127.0.0.1", "127.0.0.2")
    pool = make_pool(addresses.nodes)
    ollama.url = f"http://gpu.internal:{ollama.port}"
    for _ in range(3):
        assert b"version" in get_version(pool, ollama)
    assert asked.questions == 1


@pytest.mark.django_db
class TestRegistration:
    @pytest.fixture(autouse=True)
    def production(self, settings) -> None:
        """As where an operator has listed one network, in which the canary is not."""
        settings.NODE_NETWORKS = (ip_network("10.1.0.0/16"),)

    @pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"])
    def test_the_api_refuses_an_address_outside_of_the_listed_networks(self, canary: Canary, host: str) -> None:
        api = ApiClient(make_operator())
        response = api.post("/api/v1/nodes/", {"name": "inside", "url": f"http://{host}:{canary.port}"})
        problem = assert_problem(response, 422, "invalid-input")
        assert "SUTAZAI_NODE_NETWORKS" in problem["errors"]["url"][0]
        assert canary.hits() == 0
        assert not Node.objects.exists()

    def test_the_console_refuses_it(self, canary: Canary) -> None:
        browser = Client()
        browser.force_login(make_operator())
        form = {
            "name": "inside",
            "url": f"http://127.0.0.1:{canary.port}",
            "slots": 1,
            "connect_timeout_seconds": 1,
            "first_byte_timeout_seconds": 1,
            "gap_timeout_seconds": 1,
        }
        response = browser.post(reverse("admin:agents_node_add"), form)
        assert "SUTAZAI_NODE_NETWORKS" in response.context["adminform"].form.errors["url"][0]
        assert canary.hits() == 0
        assert not Node.objects.exists()

    def test_the_command_refuses_it(self, canary: Canary) -> None:
        with pytest.raises(CommandError, match="SUTAZAI_NODE_NETWORKS"):
            call_command("register_node", name="inside", url=f"http://127.0.0.1:{canary.port}", stdout=io.StringIO())
        assert canary.hits() == 0
        assert not Node.objects.exists()

    def test_a_node_whose_name_leads_inside_later_is_down_and_says_why(self, canary: Canary, names) -> None:
        names("169.254.169.254")
        node = make_node(url=f"http://gpu.example:{canary.port}")
        with pytest.raises(NodeRefused):
            OllamaClient(node.url).version()
        assert discovery.refresh(node) is False
        node.refresh_from_db()
        assert (node.status, canary.hits()) == ("down", 0)
        assert "SUTAZAI_NODE_NETWORKS" in node.status_reason
