"""What a new installation finds: the built-in model, an Ollama server if one answers, and two agents to begin with."""

from agents.engine import discovery
from agents.kinds.chat import Chat
from agents.kinds.text_analysis import TextAnalysis
from agents.models import Agent, Node
from core.models import User
from core.ops import first_run

STARTER_AGENTS = (
    (
        "helper",
        Chat.name,
        "Answers questions and keeps the conversation.",
        "You are a helpful assistant. Answer briefly and say so when you do not know.",
    ),
    ("analyst", TextAnalysis.name, "Summary, keywords, entities, sentiment and language of a text, as JSON.", ""),
)


@first_run.step("model nodes")
def find_nodes() -> list[str]:
    """Register the built-in model, and the Ollama server of this machine if it answers; tell what serves."""
    discovery.ensure_builtin()
    discovery.find_local()
    nodes = list(Node.objects.filter(kind=Node.Kind.OLLAMA))
    if not nodes:
        return [
            "No Ollama server found: the built-in model answers, degraded. Add a node in the console, or with",
            "manage.py register_node --name NAME --url http://HOST:11434",
        ]
    return [f"Model node {node.name} at {node.url}: {_state(node)}" for node in nodes]


def _state(node: Node) -> str:
    if node.status == Node.Status.DOWN:
        return f"down ({node.status_reason})"
    models = list(node.places.filter(is_available=True).values_list("name", flat=True))
    return ", ".join(models) or "no models yet; pull one with `ollama pull tinyllama`"


@first_run.step("starter agents")
def create_starter_agents() -> list[str]:
    """Create the agents to begin with, where there are none at all."""
    owner = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first()
    if owner is None or Agent.objects.exists():
        return []
    agents = [_create(owner, *description) for description in STARTER_AGENTS]
    return [f"Agents to begin with: {', '.join(agent.name for agent in agents)}."]


def _create(owner: User, name: str, kind: str, description: str, system_prompt: str) -> Agent:
    agent = Agent.objects.create(name=name, kind=kind, description=description, owner=owner, team=owner.team)
    version = agent.add_version(
        created_by=owner, system_prompt=system_prompt, allows_builtin_fallback=True, note="Came with the installation."
    )
    agent.make_live(version)
    return agent
