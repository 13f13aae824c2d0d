"""What Prometheus reads: counts of all processes of the group, and figures looked up at the moment it asks.

Counters and histograms are kept by prometheus_client, in files that the processes share where
PROMETHEUS_MULTIPROC_DIR names a folder (`manage.py up` does), else in this process alone. Figures that the database
holds are read when asked for, so that they are the same whoever answers.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from prometheus_client import REGISTRY, CollectorRegistry, Counter, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core import cursors
from core.ops import health, metrics_files, threads
from core.ops.heartbeat import living_workers
from core.ops.probes import State

logger = logging.getLogger(__name__)

PORT_RETRY_SECONDS = 1.0


class Totals:
    """What was counted, over all processes of the group."""

    def __init__(self, counted: Iterable[Metric]) -> None:
        self._samples = [
            (sample.name, sample.labels.items(), sample.value) for metric in counted for sample in metric.samples
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples of a name, such as "sutazai_tokens_total", that have these labels."""
        return sum(value for of, with_, value in self._samples if of == name and labels.items() <= with_)

    def each(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Give the samples of a name, with their labels."""
        return ((dict(with_), value) for of, with_, value in self._samples if of == name)


Reader = Callable[[], Iterable[Metric]]
Deriver = Callable[[Totals], Iterable[Metric]]

_readers: list[Reader] = []
_derivers: list[Deriver] = []
_failing: dict[str, type[Exception]] = {}  # those of them that failed last time, and with what

reader_errors = Counter(
    "sutazai_metrics_reader_errors", "Readings of these metrics that lack what one of their parts tells.", ["reader"]
)


def register(reader: Reader) -> Reader:
    """Have a function asked for metrics whenever Prometheus asks us; usable as a decorator."""
    _readers.append(reader)
    return reader


def derive(deriver: Deriver) -> Deriver:
    """Have a function asked for metrics that follow from what all processes counted; usable as a decorator."""
    _derivers.append(deriver)
    return deriver


def totals() -> Totals:
    """What was counted, without histograms: reading these takes long."""
    cursors.publish()
    if folder := _shared_folder():
        found = [str(path) for pattern in ("counter_*.db", "gauge_live*.db") for path in folder.glob(pattern)]
        return Totals(MultiProcessCollector.merge(found))  # type: ignore[no-untyped-call]
    return Totals(REGISTRY.collect())


def page(accept: str) -> tuple[str, bytes]:
    """The metrics in the format that an Accept header asks for: content type and body."""
    registry = CollectorRegistry()
    registry.register(_Page())
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


def serve_on_own_port() -> None:
    """Serve the page on METRICS_PORT, where that is set, to everybody who reaches it, while this process lives.

    Where another web process has the port, this one waits for its turn.
    """
    if settings.METRICS_PORT:
        threads.start_endless("metrics-port", partial(_serve, settings.METRICS_PORT))


def _serve(port: int) -> None:
    registry = CollectorRegistry()
    registry.register(_PageOfItsOwnThread())
    try:
        _, thread = start_http_server(port, addr=settings.METRICS_HOST, registry=registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _tell_that_it_waits(port)
        time.sleep(PORT_RETRY_SECONDS)
    else:
        thread.join()


@cache
def _tell_that_it_waits(port: int) -> None:
    logger.info("Metrics wait for port %d, which another process has.", port)


def _counted() -> Collector:
    cursors.publish()
    if _shared_folder():
        return MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    return REGISTRY


def _shared_folder() -> Path | None:
    """Where the processes of the group share what they count, without what those said of the present that are gone."""
    name = os.environ.get(metrics_files.VARIABLE)
    if not name:
        return None
    metrics_files.forget_the_dead(Path(name))
    return Path(name)


@dataclass(frozen=True)
class Reading:
    """All that the page says at one moment. series: name, labels and value. is_whole: everybody could tell theirs."""

    series: list[tuple[str, dict[str, str], float]]
    is_whole: bool


def reading() -> Reading:
    """Read everything now."""
    now = _Page()
    series = [(sample.name, sample.labels, sample.value) for family in now.collect() for sample in family.samples]
    return Reading(series, now.is_whole)


class _Page(Collector):
    """What is there to be told. Who fails is left out: the others tell what may be the reason."""

    def __init__(self) -> None:
        self.is_whole = True

    def collect(self) -> Iterator[Metric]:
        counted = list(_counted().collect())
        yield from counted
        for reader in _readers:
            yield from self._told_by(reader)
        for deriver in _derivers:
            yield from self._told_by(deriver, Totals(counted))

    def _told_by(self, ask: Callable[..., Iterable[Metric]], *about: Totals) -> Iterator[Metric]:
        """What somebody tells, or told before failing: each metric is whole."""
        name = f"{ask.__module__}.{ask.__qualname__}"
        try:
            yield from ask(*about)
        except Exception as error:  # noqa: BLE001 - whatever one of them meets, the others are asked
            self.is_whole = False
            _note_failure(name, error)
        else:
            _failing.pop(name, None)


def _note_failure(name: str, error: Exception) -> None:
    """Count a failure; it is told when it begins, and not each time that somebody reads."""
    reader_errors.labels(name).inc()
    if _failing.get(name) is type(error):
        return
    _failing[name] = type(error)
    if isinstance(error, (DatabaseError, InterfaceError, OSError)):
        logger.warning("The metrics do without %s: %s", name, error)
    else:
        logger.error("The metrics do without %s.", name, exc_info=error)


class _PageOfItsOwnThread(_Page):
    """For a server that has a thread for each request, which ends with the database's connection in its hand."""

    def collect(self) -> Iterator[Metric]:
        try:
            yield from super().collect()
        finally:
            connection.close()


@register
def dependency_metrics() -> Iterator[Metric]:
    """Tell what health found, from memory: also while the database is what is away."""
    up = GaugeMetricFamily(
        "api_dependency_status",
        "1: up, 0.5: degraded, 0: down or unknown, as this web process found it.",
        labels=["dependency"],
    )
    for name, state in health.states().items():
        up.add_metric([name], {State.UP: 1.0, State.DEGRADED: 0.5}.get(state, 0.0))
    yield up


@register
def platform_metrics() -> Iterator[Metric]:
    yield GaugeMetricFamily("sutazai_workers", "Workers that live.", value=living_workers())
    sessions = Session.objects.filter(expire_date__gt=timezone.now()).count()
    yield GaugeMetricFamily("sutazai_sign_in_sessions", "Sign-in sessions that have not expired.", value=sessions)
