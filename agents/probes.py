"""What the agents depend on."""

from agents.models import Node
from core.ops.probes import UP, Finding, State, register


def models() -> Finding:
    """Judge by what the last calls and looks said of each node; asks none of them."""
    nodes = list(Node.objects.filter(kind=Node.Kind.OLLAMA).select_related("breaker"))
    if not nodes:
        return Finding(State.DEGRADED, "No model server is registered; the built-in model answers.")
    not_up = sum(node.breaker.is_shut or node.status == Node.Status.UNKNOWN for node in nodes)
    if not_up == len(nodes):
        return Finding(State.DOWN, "No model server works.")
    return Finding(State.DEGRADED, f"{not_up} of {len(nodes)} model servers do not work.") if not_up else UP


register("models", models)
