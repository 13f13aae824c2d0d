"""What the pools of this process hold: calls to others, connections to the database and to Redis.

Web and worker processes write their figures down once a second, where the metrics stand. `core.ops.pool_use`
reads what all of them wrote.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django_prometheus.db import execute_total
from prometheus_client import Counter, Gauge

from core import cursors
from core.net import places
from core.net.places import Counters
from core.ops import traffic
from core.ops.threads import start_endless
from core.postgresql import pool as database_pool

PUBLISH_SECONDS = 1.0

WEB = "web"  # the process that answers requests
DATABASE = "database"
REDIS = "redis"
THREADS = "threads"  # of a web process, which answer requests

_PER_POOL = ["pool"]
_PER_PROCESS = ["process", "pool"]
active_connections = Gauge(
    "active_connections",
    "Requests that this program answers (web), and calls and connections to others that are in use.",
    ["service"],
    multiprocess_mode="livesum",
)
http_requests = Counter("sutazai_http_requests", "Calls to model servers and other addresses.", _PER_POOL)
db_queries = Counter("sutazai_db_queries", "Statements that the database was given.")
redis_operations = Counter("sutazai_redis_operations", "Commands, and pipelines of them, that Redis was given.")
connection_errors = Counter("sutazai_connection_errors", "Connections that were not made, or broke.", _PER_POOL)
pool_waits = Counter("sutazai_pool_waits", "How often somebody had to wait for a pool.", _PER_POOL)
pool_limit = Gauge("sutazai_pool_limit", "The most that a pool has.", _PER_PROCESS, multiprocess_mode="liveall")
pool_in_use = Gauge("sutazai_pool_in_use", "What is in use.", _PER_PROCESS, multiprocess_mode="liveall")
pool_waiting = Gauge("sutazai_pool_waiting", "Who waits now.", _PER_PROCESS, multiprocess_mode="liveall")
pool_utilisation = Gauge(
    "sutazai_pool_utilisation",
    "From 0 to 1; of calls, to the target that has most.",
    _PER_PROCESS,
    multiprocess_mode="liveall",
)


@dataclass(frozen=True)
class Reading:
    """A pool of this process at this moment. limit: in all, or of calls, to one target."""

    name: str
    limit: int
    counters: Counters
    utilisation: float


def readings() -> Iterator[Reading]:
    """The pools of this process that it can use with the present settings."""
    for name in places.NAMES:
        taken = places.places(name)
        yield Reading(name, taken.limit, taken.counters(), taken.utilisation())
    if (limit := database_pool.limit()) is not None:
        yield _reading(DATABASE, limit, database_pool.counters())
    if settings.REDIS_URL:
        from core.net.redis import pool  # noqa: PLC0415 - only where Redis is configured

        yield _reading(REDIS, pool().max_connections, pool().counters())


def _reading(name: str, limit: int, counters: Counters) -> Reading:
    return Reading(name, limit, counters, counters.in_use / limit)


class Publisher:
    """Writes down what a process does. more: pools that only such a process has."""

    def __init__(self, process: str, *more: Callable[[], Reading]) -> None:
        self._process = process
        self._more = more
        self._told: dict[Counter, float] = {}

    def publish(self) -> None:
        for reading in (*readings(), *(read() for read in self._more)):
            self._publish(reading)
        if self._process == WEB:
            active_connections.labels(WEB).set(traffic.under_way())
        self._raise_to(db_queries, _queries())

    def _publish(self, reading: Reading) -> None:
        name, counters = reading.name, reading.counters
        pool_limit.labels(self._process, name).set(reading.limit)
        pool_in_use.labels(self._process, name).set(counters.in_use)
        active_connections.labels(name).set(counters.in_use)
        pool_waiting.labels(self._process, name).set(counters.waiting)
        pool_utilisation.labels(self._process, name).set(round(reading.utilisation, 4))
        self._raise_to(connection_errors.labels(name), counters.connection_errors)
        self._raise_to(pool_waits.labels(name), counters.waits)
        if name in places.NAMES:
            self._raise_to(http_requests.labels(name), counters.requests)
        elif name == REDIS:
            self._raise_to(redis_operations, counters.requests)

    def _raise_to(self, counter: Counter, total: float) -> None:
        """A counter of all processes: each adds what it did since it last told."""
        counter.inc(max(0.0, total - self._told.get(counter, 0.0)))
        self._told[counter] = total


def _queries() -> float:
    """What this process asked the database so far, as django_prometheus counts it."""
    cursors.publish()
    samples = (sample for metric in execute_total.collect() for sample in metric.samples)
    return float(sum(sample.value for sample in samples if sample.name.endswith("_total")))


def start(process: str, *more: Callable[[], Reading]) -> None:
    """Tell of this process's pools from now on. process: its name, as WEB. more: pools that only it has."""
    publisher = Publisher(process, *more)

    def publish() -> None:
        publisher.publish()
        time.sleep(PUBLISH_SECONDS)

    start_endless("pool-figures", publish)
