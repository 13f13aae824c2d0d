"""Which node a change of models is for, and what several nodes make of one."""

from collections.abc import Iterator

import pytest

from agents.engine import discovery, installation
from agents.models import Node
from agents.ollama.errors import ConnectFailed, ModelNotFound, StreamError
from core.models import AuditEntry
from core.net.interrupts import Interrupt
from tests.factories import make_builtin_node, make_node
from tests.ollama_server import OllamaTestServer

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def servers() -> Iterator[list[OllamaTestServer]]:
    with OllamaTestServer(models=["tinyllama", "double"]) as first, OllamaTestServer(models=["tinyllama"]) as second:
        yield [first, second]


@pytest.fixture
def nodes(servers: list[OllamaTestServer]) -> list[Node]:
    nodes = [make_node(name=f"gpu-{number}", url=server.url) for number, server in enumerate(servers, 1)]
    for node in nodes:
        assert discovery.refresh(node)
    return nodes


def models_of(node: Node) -> set[str]:
    return set(node.places.filter(is_available=True).values_list("name", flat=True))


def audited() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "object_name", "detail"))


def test_the_only_node_need_not_be_named():
    make_builtin_node()
    with pytest.raises(installation.NoNode):
        installation.one("")
    node = make_node(name="gpu-1")
    assert installation.one("") == installation.one("gpu-1") == node
    assert installation.having("whatever", "") == [node]


def test_several_nodes_are_listed_where_none_is_named(nodes):
    assert installation.one("gpu-2") == nodes[1]
    for named in ("", "gpu-3", "built-in"):
        with pytest.raises(installation.NodeUnclear, match="The nodes are: gpu-1, gpu-2"):
            installation.one(named)
    with pytest.raises(installation.NodeUnclear):
        installation.having("tinyllama", "gpu-3")


def test_a_model_s_nodes_need_not_be_named(nodes):
    assert installation.having("TinyLlama", "") == nodes
    assert installation.having("double", "") == nodes[:1]
    assert installation.having("double", "gpu-2") == nodes[1:]
    with pytest.raises(ModelNotFound, match="'absent' not found"):
        installation.having("absent", "")
    Node.objects.filter(name="gpu-1").update(status=Node.Status.DOWN)
    assert installation.having("tinyllama", "") == nodes[::-1]


def test_a_step_by_step_change_is_known_and_audited_with_its_last_step(nodes):
    steps = installation.pull(nodes[1], "pullable", insecure=False, interrupt=Interrupt())
    for step in steps:
        assert ("pullable:latest" in models_of(nodes[1])) is step.done
    assert audited() == [("model.pulled", "gpu-2", "pullable")]
    assert "pullable:latest" not in models_of(nodes[0])


def test_a_change_whose_client_leaves_at_its_last_step_is_done(nodes):
    steps = installation.pull(nodes[0], "pullable", insecure=False, interrupt=Interrupt())
    assert next(step for step in steps if step.done)
    steps.close()
    assert audited() == [("model.pulled", "gpu-1", "pullable")]


def test_a_change_that_fails_half_way_is_audited_too(nodes, servers):
    with pytest.raises(StreamError):
        list(installation.pull(nodes[0], "absent", insecure=False, interrupt=Interrupt()))
    steps = installation.pull(nodes[0], "pullable", insecure=False, interrupt=Interrupt())
    next(steps)
    steps.close()
    servers[0].wait_for(lambda stats: stats["in_flight"] == 0)
    failed, broken_off = audited()
    assert failed[:2] == broken_off[:2] == ("model.not-pulled", "gpu-1")
    assert failed[2].startswith("absent: ")
    assert "file does not exist" in failed[2]
    assert broken_off[2] == "pullable: broken off"
    assert "pullable:latest" not in models_of(nodes[0])


def test_copying_and_deleting_reach_every_node_that_has_the_model(nodes):
    installation.copy(nodes, "tinyllama", "second")
    assert all("second:latest" in models_of(node) for node in nodes)
    installation.delete(nodes, "second")
    assert not any("second:latest" in models_of(node) for node in nodes)
    assert audited() == [
        *(("model.copied", node.name, "tinyllama as second") for node in nodes),
        *(("model.deleted", node.name, "second") for node in nodes),
    ]


def test_a_node_that_lost_the_model_meanwhile_is_no_failure_while_another_has_it(nodes, servers):
    servers[0].control(remove=["tinyllama"])
    installation.delete(nodes, "tinyllama")
    assert [entry[:2] for entry in audited()] == [("model.not-deleted", "gpu-1"), ("model.deleted", "gpu-2")]
    with pytest.raises(ModelNotFound, match="gpu-1: model 'tinyllama' not found"):
        installation.delete(nodes, "tinyllama")


def test_a_node_that_is_away_is_told_with_what_was_done_elsewhere(nodes):
    away = make_node(name="gpu-3", url="http://127.0.0.1:1")
    with pytest.raises(ConnectFailed, match=r"^gpu-3: .*\(done on gpu-1, gpu-2\)$"):
        installation.copy([away, *nodes], "tinyllama", "second")
    assert all("second:latest" in models_of(node) for node in nodes)
    with pytest.raises(ConnectFailed, match="refused"):
        installation.delete([away], "tinyllama")
