"""What runs tell about their nodes, between two probes."""

from django.utils import timezone

from agents.models import Node, NodeModel
from agents.ollama.errors import AddressRefused, ConnectFailed, ModelNotFound, NotOllama, OllamaError


def failed(place: NodeModel, error: OllamaError) -> None:
    """Have the next task go elsewhere when a node could not be reached, or does not have the model any more."""
    if isinstance(error, AddressRefused | ConnectFailed | NotOllama):
        set_status(place.node, Node.Status.DOWN, error.detail)
    elif isinstance(error, ModelNotFound):
        NodeModel.objects.filter(pk=place.pk).update(is_available=False, is_loaded=False)


def answered(node: Node) -> None:
    """Mark a node as up: it has just answered."""
    set_status(node, Node.Status.UP, "")


def set_status(node: Node, status: "Node.Status", reason: str) -> None:
    """Note a node's status; `status_since` moves only when the status changes."""
    if node.status == status and node.status_reason == reason[:300]:
        return
    changed = Node.objects.filter(pk=node.pk).exclude(status=status)
    changed.update(status=status, status_reason=reason[:300], status_since=timezone.now())
    node.status, node.status_reason = status, reason[:300]
