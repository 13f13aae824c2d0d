"""Finding model servers and what they have, and whether they work."""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.engine import node_health, operations, remembered
from agents.engine.chosen_model import client_for, release_connection
from agents.engine.process import writer
from agents.models import Node, NodeModel
from agents.models.node import BUILTIN_MODEL, canonical_model_name
from agents.ollama.client import OllamaClient
from agents.ollama.errors import OllamaError
from agents.ollama.protocol import base_url
from agents.ollama.types import GenerateRequest, InstalledModel, LoadedModel
from core.net import breakers
from core.net.breakers import Probe
from core.net.errors import InvalidUrl

logger = logging.getLogger(__name__)

LOCAL_OLLAMA = "http://127.0.0.1:11434"
BUILTIN_SLOTS = 8
# Probes that this process sends at a time: more would take all of its database connections when they end together.
PROBES_AT_A_TIME = 16
# Ollama tells that a model stays loaded for ever by an end in centuries.
FOREVER_SECONDS = 365 * 86_400.0


_free = threading.BoundedSemaphore(PROBES_AT_A_TIME)


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


def refreshable() -> QuerySet[Node]:
    """The nodes that `refresh_all` looks at."""
    return Node.objects.filter(kind=Node.Kind.OLLAMA)


def refresh_all() -> dict[str, bool]:
    """Look at every node and read its models: name -> whether its server answers."""
    return {node.name: _look(node, breakers.take_probe(node.breaker_id)) for node in refreshable()}


def refresh(node: Node) -> bool:
    """Ask a node what it has and has loaded, and write that down; False if its server does not answer.

    If its breaker is open, this is the probe that may close it, without waiting for the end of the cool-down.
    """
    return node.is_builtin or _look(node, breakers.take_probe(node.breaker_id, at_once=True))


def probe_due() -> None:
    """Look at the nodes whose breakers want a probe now, unless another process does; each in a thread of its own."""
    for node in Node.objects.filter(breaker__in=breakers.due(breakers.Kind.NODE)):
        if not _free.acquire(blocking=False):
            return
        if probe := breakers.take_probe(node.breaker_id):
            threading.Thread(target=_probe, args=(node, probe), name="engine-probe", daemon=True).start()
        else:
            _free.release()


def _probe(node: Node, probe: Probe) -> None:
    try:
        _look(node, probe)
    except Exception:
        logger.exception("The probe of %s broke; it is sent again when its time is over.", node)
    finally:
        connection.close()
        _free.release()


def _look(node: Node, probe: Probe | None) -> bool:
    """Ask a node what it has; under the right to probe it, have it write a token too."""
    if node.is_builtin:
        if probe is not None:
            probe.succeeded()
        return True
    client = client_for(node)
    try:
        version, installed, loaded = client.version(), client.tags(), client.ps()
    except (OllamaError, InvalidUrl) as error:
        Node.objects.filter(pk=node.pk).update(probed_at=timezone.now())
        node_health.unreachable(node, error, probe)
        return False
    Node.objects.filter(pk=node.pk).update(probed_at=timezone.now(), server_version=version[:50])
    node.server_version = version[:50]
    _write_models(node, installed, {canonical_model_name(model.name): model for model in loaded})
    node_health.set_status(node, Node.Status.UP, "")
    if probe is not None:
        node_health.generated(node, probe, _token(node, installed, loaded))
    for model in node.places.filter(is_available=True).values_list("name", flat=True):
        writer.call(operations.grant_waiting, model)  # tasks may wait for what has just been found
    return True


def _token(node: Node, installed: Iterable[InstalledModel], loaded: Iterable[LoadedModel]) -> OllamaError | None:
    """Have a model that is loaded write one token; returns what went wrong.

    Without such a model nothing is asked: an answer would need a load, which takes minutes and drives others out. For
    the same reason the request asks for the window that the model was loaded with, and leaves its time in memory.
    """
    writing = {model.name.lower() for model in installed if "completion" in (model.capabilities or ["completion"])}
    able = [model for model in loaded if model.name.lower() in writing and model.context_length]
    if not able:
        return None
    model = _most_wanted(able, node_health.silent_tasks(node))
    release_connection()
    patience = replace(client_for(node).timeouts, first_byte=node_health.TOKEN_SECONDS, gap=node_health.TOKEN_SECONDS)
    request = GenerateRequest(
        model=model.name,
        prompt="1",
        raw=True,
        options={"num_predict": 1, "num_ctx": model.context_length},
        keep_alive=_seconds_left(model),
    )
    try:
        for _ in OllamaClient(node.url, timeouts=patience).generate(request):
            pass
    except OllamaError as error:
        return error
    return None


def _most_wanted(loaded: Sequence[LoadedModel], wanted: Sequence[str]) -> LoadedModel:
    """Of several models, the one that tasks wait for."""
    by_name = {canonical_model_name(model.name): model for model in loaded}
    return next((by_name[name] for name in wanted if name in by_name), loaded[0])


def _seconds_left(model: LoadedModel) -> float | None:
    """How long a model is to stay in memory, as keep_alive says it; None for Ollama's default."""
    until = _moment(model.expires_at)
    if until is None:
        return None
    seconds = (until - timezone.now()).total_seconds()
    return -1.0 if seconds > FOREVER_SECONDS else max(1.0, round(seconds))


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
        transaction.on_commit(remembered.forget)


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
