"""Rows that nearly every task needs and that seldom or never change, kept in memory."""

import threading
import uuid
from typing import Any

from cachetools import LRUCache, TTLCache, cached

from agents.models import AgentVersion, NodeModel

# A node's new address or limits hold for runs that begin so much later.
PLACE_SECONDS = 1.0

_versions: LRUCache[Any, AgentVersion] = LRUCache(maxsize=256)
_places: TTLCache[Any, NodeModel] = TTLCache(maxsize=256, ttl=PLACE_SECONDS)


@cached(_versions, lock=threading.Lock())
def version(version_id: uuid.UUID) -> AgentVersion:
    """An agent's version; it never changes. Raises AgentVersion.DoesNotExist."""
    return AgentVersion.objects.get(pk=version_id)


@cached(_places, lock=threading.Lock())
def place(node_model_id: int) -> NodeModel:
    """A model on a node, its node with it. Raises NodeModel.DoesNotExist."""
    return NodeModel.objects.select_related("node").get(pk=node_model_id)


def forget() -> None:
    """Read everything anew."""
    _versions.clear()
    _places.clear()
