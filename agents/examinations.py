"""What of the agents `manage.py doctor` looks at."""

from collections.abc import Iterator

from django.utils import timezone

from agents.engine.chosen_model import client_for
from agents.models import Node
from agents.ollama.errors import OllamaError
from core.examinations import of_clock
from core.ops.doctor import Diagnosis, error, examination, ok, remedy, warning

remedy(
    "models",
    "Look at the nodes: register one, start its server, or reset its breaker in the console.",
    page="admin:agents_node_changelist",
)


@examination("nodes", needs_database=True)
def the_nodes() -> Iterator[Diagnosis]:
    """Ask each node itself, for what is known of it may be a minute old."""
    nodes = list(Node.objects.filter(kind=Node.Kind.OLLAMA))
    for node in nodes:
        yield from _of(node)
    if not nodes:
        yield warning(
            "There is no model server; the built-in model answers.",
            "manage.py register_node --name NAME --url http://HOST:11434",
        )


def _of(node: Node) -> Iterator[Diagnosis]:
    try:
        there = client_for(node).clock()
    except OllamaError as failure:
        yield error(f"{node.name} does not answer: {failure}", type(failure).__doc__ or "")
        return
    yield ok(f"{node.name} answers.")
    if there is not None:
        # It tells whole seconds; on average half of one has passed since.
        yield of_clock(node.name, (there - timezone.now()).total_seconds() + 0.5, of_whom="this machine")
    if node.is_draining:
        yield warning(f"{node.name} starts nothing new, because somebody drains it.", "End that in the console.")
