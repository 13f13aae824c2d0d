"""What a new installation finds: the built-in model, an Ollama server if one answers, and two agents to begin with."""

from agents.engine import discovery
from agents.kinds.chat import Chat
from agents.kinds.text_analysis import TextAnalysis
from agents.models import Agent, Node
from core.models import User

STARTER_AGENTS = (
    (
        "helper",
        Chat.name,
        "Answers questions and keeps the conversation.",
        "You are a helpful assistant. Answer briefly and say so when you do not know.",
    ),
    ("analyst", TextAnalysis.name, "Summary, keywords, entities, sentiment and language of a text, as JSON.", ""),
)


def find_nodes() -> list[Node]:
    """Register the built-in model and whichever Ollama server answers; returns the Ollama servers known now."""
    discovery.ensure_builtin()
    discovery.find_local()
    return list(Node.objects.filter(kind=Node.Kind.OLLAMA))


def create_starter_agents(owner: User) -> list[Agent]:
    """Create the agents to begin with, where there are none at all; returns those that were created."""
    if Agent.objects.exists():
        return []
    return [_create(owner, *description) for description in STARTER_AGENTS]


def _create(owner: User, name: str, kind: str, description: str, system_prompt: str) -> Agent:
    agent = Agent.objects.create(name=name, kind=kind, description=description, owner=owner, team=owner.team)
    version = agent.add_version(
        created_by=owner, system_prompt=system_prompt, allows_builtin_fallback=True, note="Came with the installation."
    )
    agent.make_live(version)
    return agent
