"""Metrics that alerts need and nobody else keeps."""

import shutil
import time
from collections.abc import Iterator

from django.conf import settings
from prometheus_client import Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.ops import metrics, programs

ASK_SECONDS = 5.0

# Of several processes that asked, the last one counts.
web_up = Gauge("sutazai_health_up", "1: /health answered.", multiprocess_mode="livemostrecent")
web_seconds = Gauge(
    "sutazai_health_seconds", "How long /health took, or was waited for.", multiprocess_mode="livemostrecent"
)


def ask_web() -> None:
    """Ask the web process of this machine for /health, as anybody outside would."""
    started = time.perf_counter()
    answers = programs.web_answers(ASK_SECONDS)
    web_seconds.set(time.perf_counter() - started)
    web_up.set(answers)


@metrics.register
def disk_metrics() -> Iterator[Metric]:
    disk = shutil.disk_usage(settings.DATA_DIR)
    yield GaugeMetricFamily("sutazai_disk_free_bytes", "Free where the data are.", value=disk.free)
    yield GaugeMetricFamily("sutazai_disk_size_bytes", "In all where the data are.", value=disk.total)
