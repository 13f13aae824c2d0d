"""What runs tell about their nodes, between two probes."""

from django.utils import timezone

from agents.models import Node
from agents.ollama.errors import ConnectFailed, NotOllama, OllamaError


def failed(node: Node | None, error: OllamaError) -> None:
    """Mark a node as down when it could not be reached, so that the next task goes elsewhere."""
    if node is not None and isinstance(error, ConnectFailed | NotOllama):
        set_status(node, Node.Status.DOWN, error.detail)


def answered(node: Node | None) -> None:
    """Mark a node as up: it has just answered."""
    if node is not None:
        set_status(node, Node.Status.UP, "")


def set_status(node: Node, status: "Node.Status", reason: str) -> None:
    """Note a node's status; `status_since` moves only when the status changes."""
    if node.status == status and node.status_reason == reason[:300]:
        return
    changed = Node.objects.filter(pk=node.pk).exclude(status=status)
    changed.update(status=status, status_reason=reason[:300], status_since=timezone.now())
    node.status, node.status_reason = status, reason[:300]
