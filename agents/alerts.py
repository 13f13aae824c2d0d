"""The agents' own alerts."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from core.models import Alert
from core.ops import metrics
from core.ops.alerts import Rule, Unit, register
from core.ops.alerts.expressions import Compared, Either, Latest, Metric

WARNING, CRITICAL = Alert.Severity.WARNING, Alert.Severity.CRITICAL
TARGET = "sutazai_queue_wait_target_seconds"
# A node that is well closes its breaker within seconds. One that an operator trips is left alone for a minute.
BREAKER_SECONDS = 120

register(
    Rule(
        name="QueueWaitLong",
        title="Tasks wait long for {model}",
        watches="How long the task of a model has waited that waits longest. Tasks in the background, and those that"
        " are not to run yet, do not count.",
        condition=Compared(Latest(Metric("sutazai_oldest_queued_seconds"), by=("model",)), ">", Metric(TARGET)),
        holds_for=timedelta(minutes=1),
        severity=WARNING,
        unit=Unit.SECONDS,
        why="More is asked of this model than its nodes can do, or none of them works.",
        help="The page of the queue shows who waits and what each node does. If a node that has the model is down or"
        " drains, mend that first. Else give its nodes more slots, if their memory allows it, or have another node"
        " load the model. Tasks in the background may wait: move them there. Where longer waits are usual, raise"
        " SUTAZAI_QUEUE_WAIT_TARGET_SECONDS.",
        page="console-queue",
    )
)
register(
    Rule(
        name="NodeLost",
        title="The node {node} is lost",
        watches="Each model server can be reached, and no breaker of one has been open for more than"
        f" {BREAKER_SECONDS / 60:g} minutes, unless an operator holds it.",
        condition=Either(
            (
                Compared(Latest(Metric("sutazai_node_up"), by=("node",)), "==", 0),
                Compared(Latest(Metric("sutazai_node_breaker_open_seconds"), by=("node",)), ">", BREAKER_SECONDS),
            )
        ),
        holds_for=timedelta(minutes=1),
        severity=CRITICAL,
        unit=Unit.TRUTH,
        why="Its tasks go to other nodes that have the model. Where there is none, they wait.",
        help="The page of the nodes says why it cannot be reached, or why its breaker is open. Where it cannot be"
        " reached, see whether Ollama runs on it and listens to more than its own machine (OLLAMA_HOST=0.0.0.0), and"
        " whether the network lets us through. Where it answers and its models do not, read Ollama's log, look at the"
        " memory of its machine, and restart Ollama. A node that was taken away for good is deleted; for one that"
        " comes back, silence this alert.",
        page="admin:agents_node_changelist",
    )
)


@metrics.register
def target_metrics() -> Iterator[Family]:
    yield GaugeMetricFamily(TARGET, "The wait that should not be exceeded.", value=settings.QUEUE_WAIT_TARGET_SECONDS)
