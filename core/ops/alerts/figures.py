"""Metrics that alerts need and nobody else keeps."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from prometheus_client import Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.ops import metrics, programs

ASK_SECONDS = 5.0

# What was noted longer ago says nothing of now: the duty may have gone to another host.
FRESH_SECONDS = 300.0

# Of several processes that asked, the last one counts. Without a label, each that never asked would tell of 0.
_noted = Gauge(
    "sutazai_health_noted",
    "What /health was found to be by the process that watches, and when, by a steady clock.",
    ["what"],
    multiprocess_mode="livemostrecent",
)


def ask_web() -> None:
    """Ask the web process of this machine for /health, as anybody outside would."""
    started = time.perf_counter()
    answers = programs.web_answers(ASK_SECONDS)
    _noted.labels("seconds").set(time.perf_counter() - started)
    _noted.labels("up").set(answers)
    _noted.labels("at").set(time.monotonic())  # the same for all processes of a host


@metrics.derive
def health_metrics(totals: metrics.Totals) -> Iterator[Metric]:
    """Tell what the process that watches found, on the host where it does."""
    noted = {labels["what"]: value for labels, value in totals.each("sutazai_health_noted")}
    if "at" in noted and time.monotonic() - noted["at"] < FRESH_SECONDS:
        yield GaugeMetricFamily("sutazai_health_up", "1: /health answered.", value=noted["up"])
        help_text = "How long /health took, or was waited for."
        yield GaugeMetricFamily("sutazai_health_seconds", help_text, value=noted["seconds"])


class _Disk(NamedTuple):
    device: int
    free: int
    size: int


@metrics.register
def disk_metrics() -> Iterator[Metric]:
    free = GaugeMetricFamily("sutazai_disk_free_bytes", "Free on the disk of a folder.", labels=["folder"])
    size = GaugeMetricFamily("sutazai_disk_size_bytes", "In all on the disk of a folder.", labels=["folder"])
    for folder, disk in _disks().items():
        free.add_metric([folder], disk.free)
        size.add_metric([folder], disk.size)
    yield from (free, size)


def _disks() -> dict[str, _Disk]:
    """Each disk once, by the first folder on it: one that is full is one alert."""
    folders = {"data": settings.DATA_DIR, "backups": settings.BACKUP_DIR, "audit": settings.AUDIT_ARCHIVE}
    disks: dict[str, _Disk] = {}
    for name, folder in folders.items():
        disk = _disk_of(folder) if folder else None
        if disk and disk.device not in {other.device for other in disks.values()}:
            disks[name] = disk
    return disks


def _disk_of(folder: Path) -> _Disk | None:
    """None where it is away; whoever writes there says so."""
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())  # it is made when first written to
        usage = shutil.disk_usage(place)
        return _Disk(place.stat().st_dev, usage.free, usage.total)
    except OSError:
        return None


@metrics.register
def target_metrics() -> Iterator[Metric]:
    help_text = "The age that the newest backup should not exceed."
    yield GaugeMetricFamily("sutazai_backup_max_age_seconds", help_text, value=settings.BACKUP_MAX_AGE_SECONDS)
