"""Sends requests when they are due, whatever became of earlier ones: an open loop, in a process of its own.

`python -m bench.load.generator` reads the users and then the runs from standard input, a line of JSON each. It writes
a line when the users' connections are open, and a line of JSON for each run.

A request's time counts from the moment at which it was meant to be sent, so that a server that stalls is charged for
everybody who waits meanwhile (elsewhere that is called coordinated omission). How late the generator itself was, and
how busy, is told too: where it was late, what it measured is worth nothing.
"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.client import Client, Response
from bench.figures import percentile
from bench.load.mix import HEALTH_KIND, KINDS, REFRESH, Asked, Kind, User
from tests.ollama_server.embedded import allow_many_sockets
from tests.program import ROOT

TIMEOUT_SECONDS = 10
OPEN_AT_ONCE = 50
HEALTH_PER_SECOND = 10.0
# The generator stands for other machines: it should not wait for a processor until the server has had enough of it.
NICENESS = -10
SEED = 500


@dataclass(frozen=True)
class Order:
    """A run. is_even: at equal distances instead of by chance (Poisson)."""

    per_second: float
    seconds: float
    is_even: bool = False


@dataclass(frozen=True)
class Times:
    """Milliseconds, of all requests of a kind; of those that failed, until they did. errors: how many, by reason."""

    requests: int
    median: float
    p95: float
    p99: float
    most: float
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run found. kinds: by name. lag: milliseconds by which the generator was late. cpu: the part of a core."""

    per_second: float
    seconds: float
    kinds: dict[str, Times]
    lag_p99: float
    lag_most: float
    cpu: float

    @property
    def requests(self) -> int:
        return sum(times.requests for name, times in self.kinds.items() if name != HEALTH_KIND.name)

    @property
    def errors(self) -> Counter[str]:
        """How many there were, by reason and kind of request."""
        found: Counter[str] = Counter()
        for name, times in self.kinds.items():
            found.update({f"{reason} ({name})": count for reason, count in times.errors.items()})
        return found

    @property
    def error_percent(self) -> float:
        return 100 * self.errors.total() / max(1, sum(times.requests for times in self.kinds.values()))

    @classmethod
    def read(cls, told: dict[str, Any]) -> "Run":
        return cls(**told | {"kinds": {name: Times(**times) for name, times in told["kinds"].items()}})


class _Request(NamedTuple):
    kind: Kind
    user: User | None
    asked: Asked


class Generator:
    """The users, and what they have met with in the run under way."""

    def __init__(self, url: str, seeded: dict[str, Any]) -> None:
        self._users = [_user(url, person, seeded["password"]) for person in seeded["users"]]
        self._prober = Client(url, timeout_seconds=TIMEOUT_SECONDS)
        self._chance = random.Random(SEED)
        self._begin()

    def _begin(self) -> None:
        self._lags = array("d")
        self._took: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._errors: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._under_way: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Have everybody open their connection."""
        for start in range(0, len(self._users), OPEN_AT_ONCE):
            opening = (user.client.get("/health") for user in self._users[start : start + OPEN_AT_ONCE])
            await asyncio.gather(*opening)

    def close(self) -> None:
        for client in (self._prober, *(user.client for user in self._users)):
            client.close()

    async def run(self, order: Order) -> Run:
        self._begin()
        gc.collect()
        gc.freeze()  # what is there will stay: nobody has to look through it in the middle of a run
        began, cpu = time.monotonic(), time.process_time()
        health = self._send(_at_equal_distances(HEALTH_PER_SECOND), order.seconds, self._a_probe)
        if order.per_second:
            gaps = _at_equal_distances(order.per_second) if order.is_even else self._by_chance(order.per_second)
            await asyncio.gather(health, self._send(gaps, order.seconds, self._a_request))
        else:
            await health
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        if self._under_way:
            await asyncio.wait(self._under_way)
        gc.unfreeze()
        return Run(
            order.per_second,
            order.seconds,
            {name: self._times(name) for name in [kind.name for kind in (*KINDS, HEALTH_KIND)] if name in self._took},
            lag_p99=1000 * percentile(self._lags, 0.99),
            lag_most=1000 * max(self._lags),
            cpu=cpu / seconds,
        )

    def _times(self, name: str) -> Times:
        took = sorted(self._took[name])
        at = [1000 * percentile(took, share) for share in (0.5, 0.95, 0.99)]
        return Times(len(took), *at, most=1000 * took[-1], errors=dict(self._errors[name]))

    def _by_chance(self, per_second: float) -> Iterator[float]:
        while True:
            yield self._chance.expovariate(per_second)

    def _a_probe(self) -> "_Request":
        return _Request(HEALTH_KIND, None, HEALTH_KIND.ask(None, self._chance))

    def _a_request(self) -> "_Request":
        (kind,) = self._chance.choices(KINDS, cum_weights=_CUMULATED)
        user = self._chance.choice(self._users)
        if kind.name == REFRESH and not user.may_refresh:
            return self._a_request()
        return _Request(kind, user, kind.ask(user, self._chance))

    async def _send(self, gaps: Iterator[float], seconds: float, choose: Callable[[], "_Request"]) -> None:
        """Send requests at their moments. One that is late is sent at once, and nobody after it waits longer."""
        began = due = time.monotonic()
        for gap in gaps:
            due += gap
            if due >= began + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sending = asyncio.create_task(self._ask(choose(), due))
            self._under_way.add(sending)
            sending.add_done_callback(self._under_way.discard)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))

    async def _ask(self, request: "_Request", due: float) -> None:
        kind, user, asked = request
        client = user.client if user else self._prober
        self._lags.append(time.monotonic() - due)
        try:
            response = await client.request(asked.method, asked.path, asked.body, headers=kind.headers)
        except TimeoutError:
            reason = "timeout"
        except OSError:
            reason = "reset"
        else:
            reason = _flaw(response, kind, asked.expected)
        self._took[kind.name].append(time.monotonic() - due)
        if reason:
            self._errors[kind.name][reason] += 1
            if user and kind.name == REFRESH:  # nobody knows whether the token was used up
                user.sign_out()
        elif user and kind.answered:
            kind.answered(user, response)


def _user(url: str, person: dict[str, Any], password: str) -> User:
    client = Client(url, key=person.pop("key"), timeout_seconds=TIMEOUT_SECONDS)
    return User(client, password=password, **person)


def _at_equal_distances(per_second: float) -> Iterator[float]:
    while True:
        yield 1 / per_second


def _flaw(response: Response, kind: Kind, expected: bytes) -> str:
    """What is wrong with an answer; nothing, if it is right."""
    if response.status == kind.status:
        return "" if expected in response.body else "wrong body"
    return f"status {response.status}"


_CUMULATED = [sum(kind.percent for kind in KINDS[: number + 1]) for number in range(len(KINDS))]


# The process ---------------------------------------------------------------------------------------------------------


class GeneratorProcess:
    """The generator in a process of its own."""

    def __init__(self, url: str, seeded: dict[str, Any]) -> None:
        self._first = {"url": url, "seeded": seeded}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.load.generator"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._tell(self._first)
        self._heard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def run(self, order: Order) -> Run:
        """Have it send; returns when all answers have come. Raises RuntimeError if it died."""
        self._tell(asdict(order))
        return Run.read(json.loads(self._heard()))

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the generator died")
        return line

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    first = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    generator = Generator(first["url"], first["seeded"])
    await generator.open()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        run = await generator.run(Order(**json.loads(line)))
        print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    allow_many_sockets()
    with suppress(PermissionError):
        os.nice(NICENESS)
    asyncio.run(_serve())
