"""What the web process depends on, and how each part is looked at.

A probe is cheap, for it runs every few seconds, and gives up within a few seconds. What it says may be read by
anybody: no addresses, no secrets. Parts that core does not know register their own probes.
"""

import enum
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from kombu import Connection

from core.ops.heartbeat import living_workers

TIMEOUT_SECONDS = 2.0
LOW_DISK_BYTES = 512 * 2**20
REDIS_SCHEMES = {"redis", "rediss", "unix"}


class State(enum.StrEnum):
    UP = "up"
    DEGRADED = "degraded"  # works, but not as it should
    DOWN = "down"
    UNKNOWN = "unknown"  # not looked at yet


@dataclass(frozen=True)
class Finding:
    """What a probe found. detail: for anybody to read; log_detail: for the log, where addresses may stand."""

    state: State
    detail: str = ""
    log_detail: str = ""


Probe = Callable[[], Finding]

UP = Finding(State.UP)
# Without these nothing works: the process is not ready. Everything else is reported and worked around.
ESSENTIAL = frozenset({"database"})

_probes: dict[str, Probe] = {}


def register(name: str, probe: Probe) -> None:
    """Add a part to look at. An exception of the probe means that the part is down."""
    _probes[name] = probe


def registered() -> dict[str, Probe]:
    """The probes that make sense with the present settings, by name."""
    return {name: probe for name, probe in _probes.items() if name != "redis" or settings.REDIS_URL}


def database() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return UP


def broker() -> Finding:
    scheme = urlsplit(settings.CELERY_BROKER_URL).scheme
    if scheme == "filesystem":
        folder = str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"])
        return UP if os.access(folder, os.W_OK) else Finding(State.DOWN, "The broker's folder cannot be written to.")
    if scheme in REDIS_SCHEMES:
        _ping(settings.CELERY_BROKER_URL)
    else:
        _amqp.ask()
    return UP


def redis() -> Finding:
    _ping(settings.REDIS_URL)
    return UP


def disk() -> Finding:
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < LOW_DISK_BYTES:
        return Finding(State.DEGRADED, f"Only {free // 2**20} MiB are free for the data.")
    return UP


def workers() -> Finding:
    count = living_workers()
    return UP if count else Finding(State.DOWN, "No worker lives: tasks are accepted and wait.")


def _ping(url: str) -> None:
    from core.net.redis import single_connection  # noqa: PLC0415 - only where Redis is configured

    single_connection(url, TIMEOUT_SECONDS / 2).ping()


class _Amqp:
    """A connection of its own, kept between the probes, with limits shorter than those of the publishers."""

    def __init__(self) -> None:
        self._channel: Any = None

    def ask(self) -> None:
        """Have the broker answer something. Raises what the transport raises."""
        try:
            if self._channel is None:
                self._channel = _amqp_connection().channel()
            self._channel.basic_qos(0, 0, a_global=False)  # the cheapest question that it has to answer
        except Exception:
            if self._channel is not None:
                self._channel.connection.collect()
                self._channel = None
            raise


def _amqp_connection() -> Any:
    limit = TIMEOUT_SECONDS / 2
    limits = {"read_timeout": limit, "write_timeout": limit}
    connection = Connection(settings.CELERY_BROKER_URL, connect_timeout=limit, transport_options=limits)
    # Past kombu's own way in, which would try again for longer than a probe may last.
    return connection.transport.establish_connection()


_amqp = _Amqp()

register("database", database)
register("broker", broker)
register("redis", redis)
register("disk", disk)
register("workers", workers)
