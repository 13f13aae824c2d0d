"""What calls and looks tell about nodes: the one place that knows what speaks against a node, and how much.

Two things are known of a node. Its status tells whether its server could be reached when it was asked last; operators
read it, nothing depends on it. Its breaker (`core.net.breakers`) decides whether it is given tasks. The breaker learns
from both: from every call of a run (`failed`, `answered`), and from every look (`discovery.refresh`).

- Failures to connect, silence, errors of the runner, of a proxy, and answers that break off are counted; a few of them
  with no success in between open the breaker. Refusals (4xx) and calls that we ended ourselves say nothing.
- Where nothing was reached, or nothing came in time, a look follows, which has the node write a token: within a
  second where nothing was reached, every few minutes where nothing came. If the look fails, that suffices.
- Silence speaks against a node only if it was silent towards everybody for as long as it may be: else the request
  stood in its invisible queue. Whoever hears from the node meanwhile, in any process, takes the suspicion back.
- A full queue (503) is no illness: the node stays in use, and others are preferred for a while.
"""

import time
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from agents.engine import remembered
from agents.models import AgentTask, Node, NodeModel, TaskEvent
from agents.ollama.errors import (
    AddressRefused,
    ConnectFailed,
    FirstByteTimeout,
    GapTimeout,
    ModelNotFound,
    NotOllama,
    OllamaError,
    PoolExhausted,
    Saturated,
)
from core.net import breakers
from core.net.breakers import Probe
from core.ops import clock

# Nothing that could work is at the node's address.
AWAY = (AddressRefused, ConnectFailed, NotOllama)
SILENT = (FirstByteTimeout, GapTimeout)

SPARED_SECONDS = 30.0  # after a 503
BETWEEN_LOOKS_SECONDS = 180.0  # at a node that is only silent
# How long a node may take for one token of a model that it has loaded.
TOKEN_SECONDS = 10.0

Status = AgentTask.Status

# By the breaker of a node.
_ears: dict[UUID, "Ear"] = {}
# By the breaker: nodes that answered calls of the event loop since the last telling.
_answered: set[UUID] = set()
_told_at = 0.0


def failed(place: NodeModel, error: OllamaError) -> None:
    """Note what a call that failed says about its node."""
    node = place.node
    if isinstance(error, ModelNotFound):
        NodeModel.objects.filter(pk=place.pk).update(is_available=False, is_loaded=False)
        remembered.forget()
    elif isinstance(error, Saturated):
        _spare(node)
    elif isinstance(error, AWAY):
        breakers.failed(node.breaker_id, _reason(error))
        breakers.suspect(node.breaker_id)
    elif error.counts_for_breaker:
        if not _stood_in_its_queue(node, error):
            breakers.failed(node.breaker_id, _reason(error))
        if isinstance(error, SILENT):
            ear_for(node).forget()  # what was said before the silence takes no suspicion back
            breakers.suspect(node.breaker_id, pause_seconds=BETWEEN_LOOKS_SECONDS)


def answered(node: Node) -> None:
    """Note that a call was answered. Asks the database once a second at most, and writes only after failures."""
    breakers.succeeded(node.breaker_id)


class Ear:
    """Remembers when this process last got a piece of an answer from a node, as time.monotonic() tells it."""

    def __init__(self) -> None:
        self.heard_at = float("-inf")

    def heard(self) -> None:
        """Note that a piece came. Touches nothing but memory, for it is called for each."""
        self.heard_at = time.monotonic()

    def forget(self) -> None:
        self.heard_at = float("-inf")


def ear_for(node: Node) -> Ear:
    """Find the ear for a node, for as long as somebody listens to it."""
    return _ears.setdefault(node.breaker_id, Ear())


def note_answer(node: Node) -> None:
    """Note that a call was answered, for `tell_heard`: an event loop does not ask the database itself."""
    _answered.add(node.breaker_id)


def tell_heard() -> None:
    """Take suspicions back of nodes that were heard since the last time: they are slow, and alive.

    Of those that answered on the event loop, failures are taken back too.
    """
    global _told_at
    while _answered:
        breakers.succeeded(_answered.pop())
    since, _told_at = _told_at, time.monotonic()
    for breaker_id, ear in list(_ears.items()):
        if ear.heard_at >= since:
            breakers.clear(breaker_id)


def unreachable(node: Node, error: Exception, probe: Probe | None) -> None:
    """Note that a look at a node failed. probe: the right under which it was looked at, if there was one."""
    if isinstance(error, PoolExhausted):  # that is about us
        if probe is not None:
            probe.abandon()
        return
    set_status(node, Node.Status.DOWN, str(error))
    reason = _reason(error) if isinstance(error, OllamaError) else str(error)
    if probe is not None:
        probe.failed(reason)
    elif isinstance(error, SILENT):  # for three seconds: it may be busy
        breakers.failed(node.breaker_id, reason)
        breakers.suspect(node.breaker_id)
    else:
        breakers.failed(node.breaker_id, reason, is_certain=True)


def generated(node: Node, probe: Probe, error: OllamaError | None) -> None:
    """Note how the second half of a look ended, under which a model was to write a token. error: None if it did."""
    patience = node.first_byte_timeout_seconds if probe.was_closed else TOKEN_SECONDS
    if error is None or not error.counts_for_breaker or (isinstance(error, SILENT) and _has_spoken(node, patience)):
        probe.succeeded()
    else:
        probe.failed(f"Its server answers, and its models do not: {_reason(error)}")


def _has_spoken(node: Node, seconds: float) -> bool:
    """Tell whether anybody has got a piece of an answer from a node within so many seconds."""
    if time.monotonic() - ear_for(node).heard_at < seconds:
        return True
    since = clock.now() - timedelta(seconds=seconds)
    spoke = TaskEvent.objects.filter(task=OuterRef("pk"), type=TaskEvent.Type.DELTA, created_at__gte=since)
    running = Q(Exists(spoke), status=Status.RUNNING)
    ended = Q(status=Status.SUCCEEDED, finished_at__gte=since)
    tasks = AgentTask.objects.filter(node=node)
    return tasks.filter(running).exists() or tasks.filter(ended).exists()


def silent_tasks(node: Node) -> list[str]:
    """The models of the tasks that have waited longest for a first word from a node."""
    silent = AgentTask.objects.running().filter(node=node, first_output_at=None, started_at__isnull=False)
    return list(silent.order_by("started_at").values_list("model", flat=True))


def set_status(node: Node, status: "Node.Status", reason: str) -> None:
    """Note a node's status; `status_since` moves only when the status changes."""
    if node.status == status and node.status_reason == reason[:300]:
        return
    changed = Node.objects.filter(pk=node.pk).exclude(status=status)
    changed.update(status=status, status_reason=reason[:300], status_since=timezone.now())
    node.status, node.status_reason = status, reason[:300]


def _reason(error: OllamaError) -> str:
    return f"{error.code}: {error.detail}"


def _stood_in_its_queue(node: Node, error: OllamaError) -> bool:
    """Tell whether a request may have got no answer because others got theirs."""
    return isinstance(error, FirstByteTimeout) and _has_spoken(node, node.first_byte_timeout_seconds)


def _spare(node: Node) -> None:
    """Prefer other nodes for a while. A storm of refusals writes it twice in that time."""
    now = clock.now()
    spared = timedelta(seconds=SPARED_SECONDS)
    late = Q(saturated_until=None) | Q(saturated_until__lt=now + spared / 2)
    Node.objects.filter(late, pk=node.pk).update(saturated_until=now + spared)
