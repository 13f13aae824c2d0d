"""Asking every address of a running server whether it answers, from outside, as its clients do.

A round asks all of them within a few seconds, each with a limit of its own, and keeps the times, so that a trend can
be seen.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from django.conf import settings

from core.net import http, places
from core.net.addresses import Policy
from core.net.calls import Timeouts
from core.net.errors import NetError
from core.ops import programs
from core.ops.endpoints import READY, Endpoint
from core.ops.probes import State

INTERVAL_SECONDS = 10.0
LIMIT_SECONDS = 5.0  # of one answer
SLOW_SECONDS = 1.0
# Between two that are asked, so that their times are not those of a crowd.
APART_SECONDS = 0.05
KEPT_ROUNDS = 60
MAX_ANSWER_BYTES = 16 * 2**20
ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True)
class Answer:
    """How an address answered. seconds: None where it did not. body: of /health/ready alone."""

    state: State
    detail: str = ""
    http_status: int | None = None
    seconds: float | None = None
    body: bytes = b""


@dataclass
class Watched:
    """An address, its last answer, and how long each of the last rounds took: None for one that failed."""

    endpoint: Endpoint
    answer: Answer = Answer(State.UNKNOWN)
    history: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT_ROUNDS))

    def take(self, answer: Answer) -> None:
        self.answer = answer
        if answer.state != State.UNKNOWN:
            self.history.append(None if answer.state == State.DOWN else answer.seconds)

    @property
    def times(self) -> list[float]:
        return [seconds for seconds in self.history if seconds is not None]

    @property
    def median_seconds(self) -> float | None:
        return statistics.median(self.times) if self.times else None

    @property
    def worst_seconds(self) -> float | None:
        return max(self.times, default=None)

    @property
    def answered_percent(self) -> float | None:
        return 100 * len(self.times) / len(self.history) if self.history else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.endpoint.path,
            "status": self.answer.state,
            "detail": self.answer.detail,
            "http_status": self.answer.http_status,
            "seconds": _rounded(self.answer.seconds),
            "median_seconds": _rounded(self.median_seconds),
            "worst_seconds": _rounded(self.worst_seconds),
            "answered_percent": _rounded(self.answered_percent),
            "trend_seconds": [_rounded(seconds) for seconds in self.history],
        }


@dataclass(frozen=True)
class Part:
    """What the server says of something that it depends on."""

    name: str
    state: str
    detail: str
    since: str

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "status": self.state, "detail": self.detail, "since": self.since}


def anywhere() -> Policy:
    """The operator who starts the monitor says whom it asks."""
    return Policy("--url", ANYWHERE, allows_public=True)


class Monitor:
    """Looks at a server round by round.

    url: its address; none: the one of this machine. key: an API key, without which what takes one is not asked.
    """

    def __init__(self, endpoints: list[Endpoint], *, url: str = "", key: str = "") -> None:
        self.url = url.rstrip("/") or programs.web_address()
        self.watched = [Watched(endpoint) for endpoint in endpoints]
        self.parts: list[Part] = []
        self.at = datetime.now(UTC)
        self._headers = {} if url else _as_a_proxy()
        self._key = key
        self._pool = http.pool(places.EXTERNAL, anywhere)

    def look(self) -> None:
        """Ask every address once."""
        self.at = datetime.now(UTC)
        started = time.monotonic()
        turns = [started + number * APART_SECONDS for number in range(len(self.watched))]
        with ThreadPoolExecutor(max_workers=len(self.watched)) as threads:
            answers = threads.map(self._ask_in_turn, (watched.endpoint for watched in self.watched), turns)
            for watched, answer in zip(self.watched, answers, strict=True):
                watched.take(answer)
        self.parts = list(self._parts())

    @property
    def is_healthy(self) -> bool:
        """Whether everything that was asked answered, and nothing that the server depends on is down."""
        states = {watched.answer.state for watched in self.watched} | {part.state for part in self.parts}
        return State.DOWN not in states

    @property
    def not_asked(self) -> int:
        """How many addresses were left out, because they take a key."""
        return sum(watched.answer.state == State.UNKNOWN for watched in self.watched)

    def as_dict(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "url": self.url,
            "healthy": self.is_healthy,
            "not_asked": self.not_asked,
            "endpoints": [watched.as_dict() for watched in self.watched],
            "parts": [part.as_dict() for part in self.parts],
        }

    def _ask_in_turn(self, endpoint: Endpoint, turn: float) -> Answer:
        if endpoint.takes_key and not self._key:
            return Answer(State.UNKNOWN, "It takes an API key, and none was given.")
        time.sleep(max(0.0, turn - time.monotonic()))
        return self._ask(endpoint)

    def _ask(self, endpoint: Endpoint) -> Answer:
        headers = {**self._headers, "Accept": "*/*"}
        if endpoint.takes_key:
            headers["Authorization"] = f"Bearer {self._key}"
        timeouts = Timeouts(connect=LIMIT_SECONDS, first_byte=LIMIT_SECONDS, gap=LIMIT_SECONDS)
        started = time.monotonic()
        deadline = started + LIMIT_SECONDS
        url = self.url + endpoint.path
        try:
            with self._pool.send("GET", url, headers=headers, timeouts=timeouts, deadline=deadline) as response:
                body = response.read(MAX_ANSWER_BYTES)
        except NetError as error:
            return Answer(State.DOWN, str(error), seconds=time.monotonic() - started)
        answer = _judged(response.status, response.headers, time.monotonic() - started)
        return replace(answer, body=body) if endpoint.path == READY else answer

    def _parts(self) -> Iterator[Part]:
        """Read what the server said of its parts; a stranger's answer says nothing."""
        ready = next((watched.answer for watched in self.watched if watched.endpoint.path == READY), None)
        try:
            services = json.loads(ready.body)["services"] if ready else {}
            for name, told in services.items():
                yield Part(name, told["status"], told["detail"], told["since"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return


def _judged(status: int, headers: Mapping[str, str], seconds: float) -> Answer:
    """Judge an answer by its status and its time."""
    if 200 <= status < 300:
        if seconds > SLOW_SECONDS:
            return Answer(State.DEGRADED, f"It took longer than {SLOW_SECONDS:g} s.", status, seconds)
        return Answer(State.UP, "", status, seconds)
    if 300 <= status < 400:
        return Answer(State.DOWN, f"It leads to {headers.get('Location', '')[:200]!r}; see --url.", status, seconds)
    said = {
        401: "The key is not valid.",
        403: "The key may not read this.",
        404: "There is nothing.",
        429: "Too many requests were made with this key or from this address.",
        503: "It is not ready.",
    }.get(status, "It failed.")
    return Answer(State.DOWN, f"{status}: {said}", status, seconds)


def _as_a_proxy() -> dict[str, str]:
    """What the reverse proxy of a production server says of a request, so that one from this machine passes for it."""
    if not settings.IS_PRODUCTION:
        return {}
    name = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
    return {"X-Forwarded-Proto": "https", "Host": name}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
