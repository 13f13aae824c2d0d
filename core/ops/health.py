"""How this process and what it depends on are doing: answered from memory, looked up by one thread.

Every web process has its own probe thread. A part that is missing or down is reported and worked around; only
without its database is a process not ready.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from core.ops import probes
from core.ops.probes import Finding, Probe, State

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
CHANGES_KEPT = 200  # while they cannot be written down
STALE_SECONDS = 20.0  # the probes take that long only when something essential hangs


@dataclass(frozen=True)
class Service:
    """One part as it was found last. since: the first of the findings in a row with this state."""

    state: State
    detail: str
    since: datetime
    checked_at: datetime
    latency_seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": self.state,
            "detail": self.detail,
            "since": self.since.isoformat(),
            "checked_at": self.checked_at.isoformat(),
            "latency_seconds": round(self.latency_seconds, 6),
        }


@dataclass(frozen=True)
class Change:
    """A part was found in another state than before, or for the first time."""

    part: str
    state: State
    detail: str
    at: datetime


class Health:
    """What this process knows, and the thread that finds it out."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._changes: deque[Change] = deque(maxlen=CHANGES_KEPT)
        self.looks_since: datetime | None = None
        self._looked_at = float("-inf")  # time.monotonic() at the end of the last whole round
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the probe thread; does nothing while it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="health-probes", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self.look()
            time.sleep(INTERVAL_SECONDS)

    def look(self) -> None:
        """Look at every part once."""
        self.looks_since = self.looks_since or datetime.now(UTC)
        for name, probe in probes.registered().items():
            started = time.perf_counter()
            finding = _finding(probe)
            self._note(name, finding, time.perf_counter() - started)
        if connection.vendor != "sqlite" and not connection.in_atomic_block:
            connection.close()  # back to the pool until the next round
        self._looked_at = time.monotonic()

    def _note(self, name: str, finding: Finding, latency_seconds: float) -> None:
        now = datetime.now(UTC)
        before = self._services.get(name)
        is_new = before is None or before.state != finding.state
        since = now if before is None or is_new else before.since
        self._services[name] = Service(finding.state, finding.detail, since, now, latency_seconds)
        if is_new:
            self._changes.append(Change(name, finding.state, finding.detail, now))
        if before is not None and is_new:
            level = logging.INFO if finding.state == State.UP else logging.WARNING
            details = " ".join(filter(None, (finding.detail, finding.log_detail)))
            logger.log(level, "%s: %s -> %s %s", name, before.state, finding.state, details)

    @property
    def is_stale(self) -> bool:
        return time.monotonic() - self._looked_at > STALE_SECONDS

    def services(self) -> dict[str, Service]:
        """What was found of each part so far."""
        return dict(self._services)

    def changes(self) -> list[Change]:
        """What changed that nobody wrote down yet, as far as it is remembered; the oldest first."""
        return list(self._changes)

    def forget_changes(self, written: Sequence[Change]) -> None:
        for change in written:
            if self._changes and self._changes[0] is change:
                self._changes.popleft()

    def state(self, name: str) -> State:
        service = self._services.get(name)
        return service.state if service is not None else State.UNKNOWN

    def states(self) -> dict[str, State]:
        """The state of every part that is looked at."""
        return {name: self.state(name) for name in probes.registered()}


def _finding(probe: Probe) -> Finding:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - whatever a probe meets, its part is down
        return Finding(State.DOWN, type(error).__name__, log_detail=str(error))


_health = Health()
start = _health.start
states = _health.states


def current() -> list[Change]:
    """Since when each part is as it was found last."""
    found = _health.services().items()
    return [Change(name, service.state, service.detail, service.since) for name, service in found]


def changes() -> list[Change]:
    """What changed in this process that was not written down."""
    return _health.changes()


def forget_changes(written: Sequence[Change]) -> None:
    """Forget changes that were written down."""
    _health.forget_changes(written)


def looks_since() -> datetime | None:
    """When this process began to look."""
    return _health.looks_since


def liveness() -> dict[str, Any]:
    """Tell that this process answers, and what it last knew of the parts; asks nobody."""
    return {"status": "ok", "timestamp": datetime.now(UTC).isoformat(), "services": _health.states()}


def readiness() -> dict[str, Any]:
    """Tell of each part how it was found within the last seconds; asks nobody.

    status: "ok", "degraded" when any part is not up, "unavailable" when an essential one is not.
    """
    found = _health.states()
    is_stale = _health.is_stale
    if is_stale or any(found[name] in {State.DOWN, State.UNKNOWN} for name in probes.ESSENTIAL):
        status = "unavailable"
    else:
        status = "ok" if set(found.values()) == {State.UP} else "degraded"
    return {
        "status": status,
        "timestamp": datetime.now(UTC).isoformat(),
        "detail": "The probes hang or have not run yet." if is_stale else "",
        "services": {name: service.as_dict() for name, service in _health.services().items()},
    }


def liveness_body() -> bytes:
    """The answer to GET /health, always 200."""
    return json.dumps(liveness()).encode()


def readiness_body() -> tuple[int, bytes]:
    """Status and answer to GET /health/ready: 503 only without the database."""
    answer = readiness()
    return 503 if answer["status"] == "unavailable" else 200, json.dumps(answer).encode()
