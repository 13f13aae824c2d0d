"""Nodes: adding, probing, draining."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import AgentTask, Node
from core.models import CircuitBreaker, User
from core.net import breakers
from tests.factories import make_agent, make_node, make_staff, make_task
from tests.ollama_server.embedded import OllamaTestServer
from tests.open_transactions import is_any_open

pytestmark = pytest.mark.both_databases

ADD = "admin:agents_node_add"


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=["tinyllama"]) as server:
        yield server


def form(**fields: object) -> dict[str, object]:
    patience = {"connect_timeout_seconds": 1, "first_byte_timeout_seconds": 5, "gap_timeout_seconds": 5}
    return {"name": "gpu1", "url": "", "slots": 2, **patience, **fields}


def press(client: Client, button: str, node: Node) -> str:
    return client.post(reverse(f"admin:agents_node_{button}", args=[node.pk]), follow=True).text


@pytest.mark.django_db(transaction=True)
def test_adding_a_node_reads_its_models(console: Client, ollama: OllamaTestServer) -> None:
    response = console.post(reverse(ADD), form(url=ollama.url), follow=True)

    node = Node.objects.get(name="gpu1")
    assert (node.url, node.status) == (ollama.url, Node.Status.UP)
    assert list(node.places.values_list("name", flat=True)) == ["tinyllama:latest"]
    assert "gpu1 answers: Ollama" in response.text
    assert "with 1 model." in response.text


@pytest.mark.django_db(transaction=True)
def test_a_server_that_goes_away_after_it_was_looked_at_is_saved_and_told(
    console: Client, ollama: OllamaTestServer
) -> None:
    ollama.app.watch = lambda path: path == "/api/ps" and ollama.break_off()

    response = console.post(reverse(ADD), form(url=ollama.url), follow=True)

    assert "gpu1 does not answer:" in response.text
    assert Node.objects.get(name="gpu1").status == Node.Status.DOWN


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["add", "move", "probe", "probe_selected"])
def test_no_transaction_is_open_while_a_server_is_asked(console: Client, ollama: OllamaTestServer, way: str) -> None:
    node = make_node(url=ollama.url if way.startswith("probe") else "http://127.0.0.1:9")
    asked: list[tuple[str, bool]] = []
    ollama.app.watch = lambda path: asked.append((path, is_any_open()))

    if way == "add":
        text = console.post(reverse(ADD), form(url=ollama.url), follow=True).text
    elif way == "move":
        page = reverse("admin:agents_node_change", args=[node.pk])
        text = console.post(page, form(name=node.name, url=ollama.url), follow=True).text
    elif way == "probe":
        text = press(console, "probe", node)
    else:
        data = {"action": way, "_selected_action": [str(node.pk)]}
        text = console.post(reverse("admin:agents_node_changelist"), data, follow=True).text

    assert "answers: Ollama" in text
    assert {path for path, _ in asked} == {"/api/version", "/api/tags", "/api/ps"}
    assert [path for path, is_open in asked if is_open] == []


@pytest.mark.parametrize("permission", ["view_node", "change_node"])
def test_who_may_not_save_has_no_server_asked(db: None, ollama: OllamaTestServer, permission: str) -> None:
    clerk = Client()
    clerk.force_login(make_staff("view_node", permission))
    pages = [reverse(ADD)]
    if permission == "view_node":
        pages.append(reverse("admin:agents_node_change", args=[make_node().pk]))

    assert [clerk.post(page, form(url=ollama.url)).status_code for page in pages] == [403] * len(pages)
    assert ollama.stats()["requests"] == 0


def test_an_address_without_a_server_is_refused_and_nothing_is_saved(console: Client) -> None:
    response = console.post(reverse(ADD), form(url="http://127.0.0.1:9"))

    assert "No Ollama server answers at http://127.0.0.1:9" in response.text
    assert not Node.objects.filter(name="gpu1").exists()


def test_a_server_that_is_no_ollama_is_refused(console: Client, live_server) -> None:
    response = console.post(reverse(ADD), form(url=live_server.url))

    assert "is no Ollama server" in response.text
    assert not Node.objects.filter(name="gpu1").exists()


@pytest.mark.parametrize(
    "url", ["", "ftp://gpu1", "http://user:secret@gpu1", "http://gpu1?x=1", "http://[", "x" * 400]
)
def test_a_malformed_address_is_refused(console: Client, url: str) -> None:
    response = console.post(reverse(ADD), form(url=url))

    assert response.status_code == 200
    assert response.context["adminform"].form.errors["url"]
    assert not Node.objects.filter(name="gpu1").exists()


def test_an_address_is_known_once(console: Client, ollama: OllamaTestServer) -> None:
    make_node(url=ollama.url)

    response = console.post(reverse(ADD), form(url=ollama.url))

    assert "Another node has this address." in response.text


def test_a_down_node_can_still_be_edited(console: Client) -> None:
    node = make_node(url="http://127.0.0.1:9", status=Node.Status.DOWN)

    response = console.post(
        reverse("admin:agents_node_change", args=[node.pk]), form(name=node.name, url=node.url, slots=7)
    )

    assert response.status_code == 302
    assert Node.objects.get(pk=node.pk).slots == 7


def test_the_built_in_node_can_be_edited_and_stays(console: Client) -> None:
    node = Node.objects.get(kind=Node.Kind.BUILTIN)

    response = console.post(reverse("admin:agents_node_change", args=[node.pk]), {"name": "built-in", "slots": 3})

    assert response.status_code == 302
    assert Node.objects.get(pk=node.pk).slots == 3
    assert console.post(reverse("admin:agents_node_delete", args=[node.pk]), {"post": "yes"}).status_code == 403


def test_a_node_that_runs_tasks_cannot_be_deleted(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",))
    task = make_task(operator, make_agent(operator, content={"model": "tinyllama"}))
    assert task.status == "running"

    assert console.post(reverse("admin:agents_node_delete", args=[node.pk]), {"post": "yes"}).status_code == 403
    assert Node.objects.filter(pk=node.pk).exists()


def test_a_probe_tells_what_it_found(console: Client, ollama: OllamaTestServer) -> None:
    alive, dead = make_node(url=ollama.url), make_node(url="http://127.0.0.1:9")

    assert f"{alive.name} answers: Ollama" in press(console, "probe", alive)
    assert f"{dead.name} does not answer:" in press(console, "probe", dead)
    dead.refresh_from_db()
    assert dead.status == Node.Status.DOWN


def test_a_drained_node_starts_nothing_until_it_is_resumed(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",))
    agent = make_agent(operator, content={"model": "tinyllama"})

    assert "starts nothing new" in press(console, "drain", node)
    task = make_task(operator, agent)
    assert task.status == "queued"
    assert "nothing changed" in press(console, "drain", node)
    assert "takes tasks again" in press(console, "resume", node)

    assert AgentTask.objects.get(pk=task.pk).status == "running"
    assert "nothing changed" in press(console, "resume", node)


def test_more_slots_take_what_waits_at_once(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",), slots=1)
    agent = make_agent(operator, content={"model": "tinyllama"})
    _, waiting = make_task(operator, agent), make_task(operator, agent)
    assert waiting.status == "queued"

    console.post(reverse("admin:agents_node_change", args=[node.pk]), form(name=node.name, url=node.url, slots=2))

    waiting.refresh_from_db()
    assert waiting.status == "running"


def test_draining_selected_nodes_reports_what_was_skipped(console: Client) -> None:
    nodes = [make_node(), make_node(is_draining=True)]
    data = {"action": "drain_selected", "_selected_action": [str(node.pk) for node in nodes]}

    text = console.post(reverse("admin:agents_node_changelist"), data, follow=True).text

    assert "Draining 1 node." in text
    assert "Skipped 1 node: draining already." in text


def test_the_page_shows_models_and_what_runs(console: Client, operator: User) -> None:
    node = make_node(models=("tinyllama:latest",))
    node.places.update(is_loaded=True, loaded_context_tokens=8192, size_bytes=637_700_138)
    make_task(operator, make_agent(operator, content={"model": "tinyllama"}))

    text = console.get(reverse("admin:agents_node_change", args=[node.pk])).text

    for shown in ("tinyllama:latest", "Loaded", "8192 tokens", "638 MB", "1 of 4"):
        assert shown in text


def test_the_list_costs_the_same_for_many_nodes(console: Client, django_assert_max_num_queries) -> None:
    for _ in range(20):
        make_node(models=("a:latest", "b:latest"))

    with django_assert_max_num_queries(8):
        response = console.get(reverse("admin:agents_node_changelist"))

    assert {node.models_available for node in response.context["cl"].result_list} == {1, 2}


def test_a_node_that_is_given_no_tasks_says_why_and_leads_to_its_breaker(console: Client, operator: User) -> None:
    node = make_node(name="gpu1", is_down=True)
    page = reverse("admin:agents_node_change", args=[node.pk])
    for text in (console.get(page).text, console.get(reverse("admin:agents_node_changelist")).text):
        assert "connection refused" in text
        assert ">Down<" in text
    assert reverse("admin:core_circuitbreaker_change", args=[node.breaker_id]) in console.get(page).text
    Node.objects.update(status=Node.Status.UP)
    assert ">Failing<" in console.get(page).text  # its server answers, its models do not
    breakers.hold(node.breaker_id, breakers.Forced.CLOSED, by=operator, reason="it lies")
    assert ">Held closed<" in console.get(page).text


def test_a_node_whose_queue_was_full_says_so(console: Client) -> None:
    node = make_node()
    page = reverse("admin:agents_node_change", args=[node.pk])
    assert "Its queue was full." not in console.get(page).text
    Node.objects.update(saturated_until=timezone.now() + timedelta(seconds=30))
    assert "Its queue was full." in console.get(page).text


def test_a_probe_by_hand_closes_the_breaker_or_says_why_not(console: Client, ollama: OllamaTestServer) -> None:
    node = make_node(url=ollama.url, is_down=True)
    assert "given no tasks all the same" not in press(console, "probe", node)
    assert CircuitBreaker.objects.get(node=node).state == "closed"
    breakers.trip(node.breaker_id, by=User.objects.get(username="op"), reason="new disks")
    breakers.take_probe(node.breaker_id, at_once=True)  # somebody else probes it
    assert "It is given no tasks all the same: new disks" in press(console, "probe", node)


def test_a_breaker_bears_the_name_of_its_node_and_goes_with_it(console: Client) -> None:
    node = make_node(name="gpu1", url="http://127.0.0.1:9")
    console.post(reverse("admin:agents_node_change", args=[node.pk]), form(name="gpu2", url=node.url))
    assert CircuitBreaker.objects.get(node=node).name == "node:gpu2"
    console.post(reverse("admin:agents_node_delete", args=[node.pk]), {"post": "yes"})
    assert not Node.objects.filter(pk=node.pk).exists()
    assert not CircuitBreaker.objects.filter(name="node:gpu2").exists()
