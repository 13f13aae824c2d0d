"""What the agents depend on."""

from agents.models import Node
from core.ops.probes import UP, Finding, State, register


def models() -> Finding:
    """Judge by what the last calls and look-ups said of each node; asks none of them."""
    statuses = list(Node.objects.filter(kind=Node.Kind.OLLAMA).values_list("status", flat=True))
    if not statuses:
        return Finding(State.DEGRADED, "No model server is registered; the built-in model answers.")
    not_up = sum(status != Node.Status.UP for status in statuses)
    if not_up == len(statuses):
        return Finding(State.DOWN, "No model server answers.")
    return Finding(State.DEGRADED, f"{not_up} of {len(statuses)} model servers do not answer.") if not_up else UP


register("models", models)
