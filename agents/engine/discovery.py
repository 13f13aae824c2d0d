"""Finding model servers and what they have."""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.engine import node_health, operations
from agents.engine.chosen_model import client_for
from agents.engine.process import writer
from agents.models import Node, NodeModel
from agents.models.node import BUILTIN_MODEL, canonical_model_name
from agents.ollama.client import OllamaClient
from agents.ollama.errors import OllamaError
from agents.ollama.protocol import base_url
from agents.ollama.types import InstalledModel, LoadedModel
from core.net.errors import InvalidUrl

logger = logging.getLogger(__name__)

LOCAL_OLLAMA = "http://127.0.0.1:11434"
BUILTIN_SLOTS = 8


def ensure_builtin() -> Node:
    """Make sure that the built-in model stands among the nodes."""
    node, _ = Node.objects.get_or_create(
        kind=Node.Kind.BUILTIN,
        defaults={
            "name": "built-in",
            "slots": BUILTIN_SLOTS,
            "status": Node.Status.UP,
            "status_since": timezone.now(),
        },
    )
    NodeModel.objects.get_or_create(
        node=node, name=BUILTIN_MODEL, defaults={"is_loaded": True, "capabilities": ["completion"]}
    )
    return node


def find_local() -> Node | None:
    """Register the Ollama server that OLLAMA_HOST names, else the one on this machine, if it answers."""
    for url in filter(None, (settings.OLLAMA_HOST, LOCAL_OLLAMA)):
        try:
            address = base_url(url)
            OllamaClient(address).version()
        except (OllamaError, InvalidUrl) as error:
            logger.info("No Ollama server answers at %s: %s", url, error)
            continue
        known = Node.objects.filter(url=address).first()
        node = known or Node.objects.create(name=_free_name("ollama"), url=address)
        refresh(node)
        return node
    return None


def _free_name(wanted: str) -> str:
    taken = set(Node.objects.filter(name__startswith=wanted).values_list("name", flat=True))
    numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *numbered) if name not in taken)


def refresh_all() -> dict[str, bool]:
    """Probe every node and read its models: name -> whether it is up."""
    return {node.name: refresh(node) for node in Node.objects.filter(kind=Node.Kind.OLLAMA)}


def refresh(node: Node) -> bool:
    """Ask a node what it has and has loaded, and write that down; False if it could not be asked."""
    if node.is_builtin:
        return True
    client = client_for(node)
    try:
        version, installed, loaded = client.version(), client.tags(), client.ps()
    except (OllamaError, InvalidUrl) as error:
        Node.objects.filter(pk=node.pk).update(probed_at=timezone.now())
        node_health.set_status(node, Node.Status.DOWN, str(error))
        return False
    Node.objects.filter(pk=node.pk).update(probed_at=timezone.now(), server_version=version[:50])
    node.server_version = version[:50]
    _write_models(node, installed, {canonical_model_name(model.name): model for model in loaded})
    node_health.set_status(node, Node.Status.UP, "")
    for model in node.places.filter(is_available=True).values_list("name", flat=True):
        writer.call(operations.grant_waiting, model)  # tasks may wait for what has just been found
    return True


def _write_models(node: Node, installed: Iterable[InstalledModel], loaded: dict[str, LoadedModel]) -> None:
    now = timezone.now()
    windows = dict(node.places.values_list("name", "loaded_context_tokens"))
    rows = {row.name: row for row in (_row(node, model, loaded, windows, now) for model in installed)}
    with transaction.atomic():
        # In the order in which the grant locks them too.
        list(NodeModel.objects.select_for_update(no_key=True).filter(node=node).order_by("pk").values_list("pk"))
        NodeModel.objects.bulk_create(
            rows.values(),
            update_conflicts=True,
            unique_fields=["node", "name"],
            update_fields=[
                "is_available",
                "digest",
                "size_bytes",
                "family",
                "parameter_size",
                "quantization",
                "capabilities",
                "is_loaded",
                "loaded_context_tokens",
                "loaded_until",
                "vram_bytes",
                "seen_at",
            ],
        )
        gone = NodeModel.objects.filter(node=node, is_available=True).exclude(name__in=rows)
        gone.update(is_available=False, is_loaded=False)


def _row(
    node: Node,
    model: InstalledModel,
    loaded_models: dict[str, LoadedModel],
    windows: dict[str, int | None],
    now: datetime,
) -> NodeModel:
    name = canonical_model_name(model.name)
    loaded = loaded_models.get(name)
    return NodeModel(
        node=node,
        name=name[:200],
        is_available=True,
        digest=model.digest[:100],
        size_bytes=model.size_bytes,
        family=model.details.family[:60],
        parameter_size=model.details.parameter_size[:30],
        quantization=model.details.quantization_level[:30],
        capabilities=list(model.capabilities),
        is_loaded=loaded is not None,
        loaded_context_tokens=(loaded.context_length if loaded else 0) or windows.get(name[:200]),
        loaded_until=_moment(loaded.expires_at) if loaded else None,
        vram_bytes=loaded.vram_bytes if loaded else 0,
        seen_at=now,
    )


def _moment(text: str) -> datetime | None:
    """Read Ollama's RFC 3339 time; None for one that Python cannot hold, such as "never" in the year 2318."""
    try:
        return parse_datetime(text)
    except ValueError:
        return None
