"""Making a model server known: its address is looked at before anything is written."""

from django.db import transaction

from agents.engine import discovery
from agents.models import AgentTask, Node, NodeModel
from agents.ollama.client import OllamaClient
from agents.ollama.errors import AddressRefused, ModelNotFound, NotOllama, OllamaError, OllamaRejected
from agents.ollama.protocol import base_url
from core import audit
from core.exceptions import InvalidInput, Refused


class NotAnOllamaServer(Refused):
    """Something else answers at the address. Correct the address."""

    status = 422
    code = "not-an-ollama-server"
    title = "This is no Ollama server"


class NodeUnreachable(Refused):
    """Nothing answers at the address. Start the server, or correct the address."""

    status = 422
    code = "node-unreachable"
    title = "No server answers there"


class NodeInUse(Refused):
    """The node runs tasks, or is the built-in one, which stays. Drain it first."""

    status = 409
    code = "node-in-use"
    title = "The node cannot be removed now"


def check_address(url: str) -> str:
    """Spell a server's address as nodes keep it, and ask the server there who it is; returns the address.

    Raises InvalidInput, NotAnOllamaServer, NodeUnreachable.
    """
    address = read_address(url)
    client = OllamaClient(address)
    try:
        client.version()
        client.tags()
    except AddressRefused as error:
        raise InvalidInput({"url": [f"No model server may be there: {error.detail}."]}) from error
    except (NotOllama, ModelNotFound, OllamaRejected) as error:
        raise NotAnOllamaServer(f"What answers at {address} is no Ollama server: {error.detail}") from error
    except OllamaError as error:
        raise NodeUnreachable(f"No Ollama server answers at {address}: {error.detail}") from error
    return address


def read_address(url: str) -> str:
    """Complete an address: "gpu1" becomes "http://gpu1:11434". Raises InvalidInput."""
    try:
        address = base_url(url)
    except ValueError as error:
        raise InvalidInput({"url": [f"This is no address of a server: {error}."]}) from error
    if len(address) > (limit := Node._meta.get_field("url").max_length or 0):
        raise InvalidInput({"url": [f"An address may have {limit} characters."]})
    return address


def check_free(node: Node) -> None:
    """Check that no other node has the name or the address of this one. Raises InvalidInput."""
    others = Node.objects.exclude(pk=node.pk)
    if others.filter(name=node.name).exists():
        raise InvalidInput({"name": ["Another node has this name."]})
    if others.filter(url=node.url).exists():
        raise InvalidInput({"url": ["Another node has this address."]})


def register(name: str, url: str) -> tuple[Node, bool]:
    """Make the server at an address known under a name, or move the name to another address; read its models.

    A server that does not answer is registered too, so that it is found once it is started.
    Returns the node, and whether it answers. Raises InvalidInput, NotAnOllamaServer.
    """
    try:
        address = check_address(url)
    except NodeUnreachable:
        address = read_address(url)
    node = Node.objects.filter(name=name).first() or Node(name=name)
    if node.is_builtin:
        raise InvalidInput({"name": ["The built-in node has this name."]})
    before = None if node._state.adding else audit.snapshot(node)
    node.url = address
    check_free(node)
    with transaction.atomic():
        if before is None:
            node.save()
        else:
            node.save(update_fields=["url"])
        audit.record("node.registered", target=node, before=before, after=node)
    return node, discovery.refresh(node)


def remove(node: Node) -> None:
    """Forget a node that nothing runs on; finished tasks keep its name in their receipts. Raises NodeInUse."""
    with transaction.atomic():
        list(NodeModel.objects.select_for_update().filter(node=node))  # nothing is granted there meanwhile
        check_removable(node)
        node.delete()


def check_removable(node: Node) -> None:
    """Raises NodeInUse."""
    if node.is_builtin:
        raise NodeInUse("The built-in node stays.")
    if AgentTask.objects.running().filter(node_model__node=node).exists():
        raise NodeInUse("Tasks run on the node. Drain it and wait for their end.")
