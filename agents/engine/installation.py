"""Changing which models nodes have.

Each change stands in the audit log, also one that failed or was broken off half-way. When it is done its node's models
are read anew, before whoever asked for it learns that it is done: the next call finds what there is.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from agents.engine import discovery
from agents.engine.chosen_model import release_connection
from agents.models import Node
from agents.models.node import canonical_model_name
from agents.ollama.client import OllamaClient
from agents.ollama.errors import ModelNotFound, OllamaError
from agents.ollama.types import JsonObject, Progress, Timeouts
from core import audit
from core.exceptions import Refused
from core.net.interrupts import Interrupt

# The digest of a large model is checked in silence, and slow disks take its files slowly.
SILENCE_SECONDS = 1800.0
WRITE_SECONDS = 60.0


class NodeUnclear(Refused):
    """Several nodes could be meant, or there is none of this name. Name one of those that the text lists."""

    status = 400
    code = "node-unclear"
    title = "It is not clear which node is meant"


class NoNode(Refused):
    """No model server is known. Register one."""

    status = 503
    code = "no-node"
    title = "There is no model server"


def one(named: str) -> Node:
    """Find the node of a name; without a name the only one there is. Raises NodeUnclear, NoNode."""
    nodes = _all()
    if named:
        return _named(named, nodes)
    if len(nodes) > 1:
        raise NodeUnclear(f"Name the node in the header X-SutazAI-Node. The nodes are: {_names(nodes)}.")
    return nodes[0]


def having(model: str, named: str) -> list[Node]:
    """Find the nodes that have a model, those that answer first; where one is named, or there is but one, that one.

    Raises NodeUnclear, NoNode, ModelNotFound.
    """
    nodes = _all()
    if named:
        return [_named(named, nodes)]
    if len(nodes) == 1:
        return nodes  # it knows better than we do
    places = Node.objects.filter(places__name=canonical_model_name(model), places__is_available=True)
    holders = set(places.values_list("pk", flat=True))
    found = [node for node in nodes if node.pk in holders]
    if not found:
        raise ModelNotFound(f"model '{model}' not found", status=404)
    return sorted(found, key=lambda node: node.status == Node.Status.DOWN)


def _all() -> list[Node]:
    nodes = list(Node.objects.filter(kind=Node.Kind.OLLAMA).order_by("name"))
    if not nodes:
        raise NoNode
    return nodes


def _named(name: str, nodes: Sequence[Node]) -> Node:
    for node in nodes:
        if node.name == name:
            return node
    raise NodeUnclear(f"There is no node of this name. The nodes are: {_names(nodes)}.")


def _names(nodes: Iterable[Node]) -> str:
    return ", ".join(node.name for node in nodes)


# Step by step; each raises any OllamaError, also after steps that went well. Closing the steps breaks the change off.

Steps = Generator[Progress, None, None]


def pull(node: Node, model: str, *, insecure: bool, interrupt: Interrupt) -> Steps:
    """Have a node download a model. What was loaded before a break is not loaded again."""
    steps = _client(node).pull(model, insecure=insecure, interrupt=interrupt)
    return _followed(steps, "pulled", node, model)


def push(node: Node, model: str, *, insecure: bool, interrupt: Interrupt) -> Steps:
    """Have a node upload a model to the registry that its name names."""
    steps = _client(node).push(model, insecure=insecure, interrupt=interrupt)
    return _followed(steps, "pushed", node, model)


def create(node: Node, model: str, settings: JsonObject, *, interrupt: Interrupt) -> Steps:
    """Have a node make a model. settings: as `OllamaClient.create` takes them."""
    steps = _client(node).create(model, settings, interrupt=interrupt)
    return _followed(steps, "created", node, model)


def _followed(steps: Iterable[Progress], what: str, node: Node, model: str) -> Steps:
    """Give the steps of a change, the last once it is told; without one the steps end in an error."""
    with _told_if_it_fails(what, node, model):
        for step in steps:
            if not step.done:
                yield step
    _done(what, node, model)
    yield step


# At once ------------------------------------------------------------------------------------------------------------


def copy(nodes: Sequence[Node], source: str, destination: str) -> None:
    """Give a model a second name on each of these nodes. Raises any OllamaError."""
    detail = f"{source} as {destination}"
    _on_each(nodes, "copied", detail, lambda client: client.copy(source, destination))


def delete(nodes: Sequence[Node], model: str) -> None:
    """Remove a model from each of these nodes. Raises any OllamaError."""
    _on_each(nodes, "deleted", model, lambda client: client.delete(model))


def has_blob(node: Node, digest: str) -> bool:
    """Tell whether a node has a file, for models to be made of. Raises any OllamaError."""
    return _client(node).has_blob(digest)


def upload(node: Node, digest: str, content: Iterable[bytes], interrupt: Interrupt) -> bool:
    """Send a node a file, which it checks against its digest; False if it had it. Raises any OllamaError."""
    client = _client(node)
    if client.has_blob(digest):
        for _ in content:  # the node would answer before the end, and whoever sends may miss an early answer
            pass
        return False
    with _told_if_it_fails("uploaded", node, digest):
        client.upload_blob(digest, content, interrupt=interrupt)
    _tell("uploaded", node, digest)
    return True


def _on_each(nodes: Sequence[Node], what: str, detail: str, change: Callable[[OllamaClient], None]) -> None:
    """Make a change on all nodes that can be reached; then tell of the first failure, if there was one.

    A node without the model is none, as long as another has it: our knowledge of it was old.
    """
    done: list[Node] = []
    failures: list[tuple[Node, OllamaError]] = []
    for node in nodes:
        release_connection()
        try:
            with _told_if_it_fails(what, node, detail):
                change(_client(node))
        except OllamaError as error:
            failures.append((node, error))
        else:
            done.append(node)
            _done(what, node, detail)
    serious = [(node, failure) for node, failure in failures if not isinstance(failure, ModelNotFound)]
    for node, failure in serious or ([] if done else failures):
        if len(nodes) == 1:
            raise failure
        told = f"{node}: {failure.detail}" + (f" (done on {_names(done)})" if done else "")
        raise type(failure)(told, status=failure.status) from failure


@contextmanager
def _told_if_it_fails(what: str, node: Node, detail: str) -> Iterator[None]:
    """Tell the audit log of a change that fails or is broken off: it may have changed something all the same."""
    try:
        yield
    except (Exception, GeneratorExit) as error:
        _tell(f"not-{what}", node, f"{detail}: {str(error) or 'broken off'}")
        raise


def _done(what: str, node: Node, detail: str) -> None:
    _tell(what, node, detail)
    discovery.refresh(node)


def _tell(what: str, node: Node, detail: str) -> None:
    audit.record(f"model.{what}", target=node, detail=detail)


def _client(node: Node) -> OllamaClient:
    """Make a client that bears the silence of large files."""
    timeouts = Timeouts(
        connect=node.connect_timeout_seconds, write=WRITE_SECONDS, first_byte=SILENCE_SECONDS, gap=SILENCE_SECONDS
    )
    return OllamaClient(node.url, timeouts=timeouts)
