"""Figures that nobody but the alerts keeps."""

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.ops import metrics
from core.ops.alerts import figures
from core.ops.metrics_files import MEMORY

pytestmark = pytest.mark.django_db


def told(prefix: str) -> dict[tuple[Any, ...], float]:
    """What /metrics tells by names that begin so: by name and labels."""
    families = text_string_to_metric_families(metrics.page("")[1].decode())
    samples = (sample for family in families for sample in family.samples if sample.name.startswith(prefix))
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def nobody_asked() -> None:
    figures._noted.clear()


@pytest.fixture
def healthy_server(settings: Any) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        settings.HOST, settings.PORT = server.server_address
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("nobody_asked")
def test_a_host_where_nobody_asked_for_health_tells_nothing_of_it() -> None:
    assert told("sutazai_health_") == {}


@pytest.mark.usefixtures("nobody_asked", "healthy_server")
def test_the_host_where_somebody_asked_tells_what_was_answered() -> None:
    figures.ask_web()
    assert told("sutazai_health_up") == {("sutazai_health_up",): 1}
    assert 0 < told("sutazai_health_seconds")["sutazai_health_seconds",] < figures.ASK_SECONDS


@pytest.mark.usefixtures("nobody_asked")
def test_it_tells_that_nobody_answered(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings.HOST, settings.PORT = taken.getsockname()
    figures.ask_web()
    assert told("sutazai_health_up") == {("sutazai_health_up",): 0}


@pytest.mark.usefixtures("nobody_asked", "healthy_server")
def test_what_was_found_long_ago_is_not_told_any_more() -> None:
    figures.ask_web()
    figures._noted.labels("at").set(time.monotonic() - figures.FRESH_SECONDS)
    assert told("sutazai_health_up") == told("sutazai_health_seconds") == {}


def folders() -> set[str]:
    return {dict(labels)["folder"] for _, *labels in told("sutazai_disk_free_bytes")}


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not on the disk of the others."""
    if not MEMORY.exists() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("There is only one disk.")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def test_a_disk_is_told_once_whatever_is_on_it(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.BACKUP_DIR, settings.AUDIT_ARCHIVE = tmp_path, tmp_path / "backups", tmp_path / "audit"
    settings.BACKUP_DIR.mkdir()
    assert folders() == {"data"}
    assert (
        told("sutazai_disk_size")["sutazai_disk_size_bytes", ("folder", "data")] == shutil.disk_usage(tmp_path).total
    )


def test_disks_of_their_own_are_told_before_anything_is_written_there(
    settings: Any, tmp_path: Path, other_disk: Path
) -> None:
    settings.DATA_DIR = tmp_path
    settings.BACKUP_DIR, settings.AUDIT_ARCHIVE = other_disk / "a" / "b", other_disk
    assert folders() == {"data", "backups"}
    sizes = told("sutazai_disk_size")
    assert sizes["sutazai_disk_size_bytes", ("folder", "backups")] == shutil.disk_usage(other_disk).total
    settings.BACKUP_DIR = tmp_path
    assert folders() == {"data", "audit"}
    settings.AUDIT_ARCHIVE = None
    assert folders() == {"data"}


def test_the_age_that_a_backup_may_have_is_a_setting(settings: Any) -> None:
    settings.BACKUP_MAX_AGE_SECONDS = 170 * 3600
    assert told("sutazai_backup_max")["sutazai_backup_max_age_seconds",] == 170 * 3600
