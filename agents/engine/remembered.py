"""Rows that nearly every task needs and that seldom or never change, kept in memory."""

import threading
import uuid
from typing import Any

from cachetools import LRUCache, TTLCache, cached
from django.db.models.signals import post_delete, post_save

from agents.engine import statements
from agents.engine.statements import KnownModel
from agents.models import Agent, AgentVersion, NodeModel
from core.models import CircuitBreaker

# What another process changes of these holds here so much later at most.
SECONDS = 1.0

_agents: TTLCache[Any, Agent] = TTLCache(maxsize=256, ttl=SECONDS)
_agents_of_kind: TTLCache[Any, Agent] = TTLCache(maxsize=256, ttl=SECONDS)
_versions: LRUCache[Any, AgentVersion] = LRUCache(maxsize=256)
_builds: TTLCache[Any, list[str]] = TTLCache(maxsize=256, ttl=SECONDS)
_models: TTLCache[Any, list[KnownModel]] = TTLCache(maxsize=1, ttl=SECONDS)
_places: TTLCache[Any, NodeModel] = TTLCache(maxsize=256, ttl=SECONDS)


@cached(_agents, lock=threading.Lock())
def agent(team_id: uuid.UUID, name: str) -> Agent:
    """A team's agent, its live version with it. Raises Agent.DoesNotExist."""
    found = Agent.objects.get(team=team_id, name=name)
    if found.live_version_id is not None:
        found.live_version = version(found.live_version_id)
    return found


@cached(_agents_of_kind, lock=threading.Lock())
def agent_of_kind(team_id: uuid.UUID, kind: str) -> Agent:
    """A team's oldest agent of a kind, its live version with it. Raises Agent.DoesNotExist."""
    found = Agent.objects.filter(team=team_id, kind=kind).order_by("pk").first()
    if found is None:
        raise Agent.DoesNotExist
    if found.live_version_id is not None:
        found.live_version = version(found.live_version_id)
    return found


@cached(_versions, lock=threading.Lock())
def version(version_id: uuid.UUID) -> AgentVersion:
    """An agent's version; it never changes. Raises AgentVersion.DoesNotExist."""
    return AgentVersion.objects.get(pk=version_id)


@cached(_models, lock=threading.Lock())
def models() -> list[KnownModel]:
    """Which models there are, the best first."""
    return statements.known_models()


@cached(_places, lock=threading.Lock())
def place(node_model_id: int) -> NodeModel:
    """A model on a node, its node with it. Raises NodeModel.DoesNotExist."""
    return NodeModel.objects.select_related("node").get(pk=node_model_id)


@cached(_builds, lock=threading.Lock())
def builds(model: str) -> list[str]:
    """The digests of what nodes have under a model's name."""
    having = NodeModel.objects.filter(name=model, is_available=True)
    return sorted(set(having.values_list("digest", flat=True)))


def forget(**_: Any) -> None:
    """Read everything anew."""
    _agents.clear()
    _agents_of_kind.clear()
    _versions.clear()
    _models.clear()
    _places.clear()
    _builds.clear()


for changing in (Agent, NodeModel, CircuitBreaker):
    post_save.connect(forget, sender=changing)
    post_delete.connect(forget, sender=changing)
