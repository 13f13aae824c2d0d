"""The run: an idle server, more and more requests in a second until a goal is missed, then rounds at what it held."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.gateway.double import DoubleProcess
from bench.gateway.processes import Meter
from bench.gateway.targets import MODEL, Ours
from bench.group import Backends, running_group
from bench.load.generator import GeneratorProcess, Order
from bench.load.mix import HEALTH_KIND
from bench.load.verdict import Measured
from bench.load.watch import Watch
from bench.report import say

SLOTS = 64
GOAL_PER_SECOND = 500
SECONDS_OF_A_USER = 2  # each asks once in so long
# An invalid run says nothing, so it is done again, but not for ever.
TRIES = 3
CALM_CORES = 0.15
CALM_SECONDS = 120


@dataclass(frozen=True)
class Scale:
    """How much to measure. rates: requests in a second that are tried one after another.

    divide_rows_by: for fewer rows and users.
    """

    rates: tuple[int, ...]
    rate_seconds: float
    rounds: int
    round_seconds: float
    soak_seconds: float
    idle_seconds: float
    warm_up_seconds: float
    divide_rows_by: int = 1


FULL = Scale(
    rates=(25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, GOAL_PER_SECOND),
    rate_seconds=60,
    rounds=3,
    round_seconds=600,
    soak_seconds=3600,
    idle_seconds=30,
    warm_up_seconds=20,
)
QUICK = Scale(
    rates=(10, 20),
    rate_seconds=4,
    rounds=1,
    round_seconds=4,
    soak_seconds=0,
    idle_seconds=2,
    warm_up_seconds=2,
    divide_rows_by=20,
)


@dataclass
class Server:
    """A group with its rows and users, and the generator beside it."""

    target: Ours
    generator: GeneratorProcess
    rows: int
    users: int
    web_processes: int

    def load(self, per_second: float, seconds: float, *, is_even: bool = False) -> Measured:
        self.calm_down()
        with Watch(self.target) as watch:
            run = self.generator.run(Order(per_second, seconds, is_even))
        measured = Measured(run, watch.costs)
        say(f"{self.target.name}, {per_second:g}/s for {seconds:g} s: {told(measured)}")
        return measured

    def load_validly(self, per_second: float, seconds: float) -> Measured:
        """Load it again where the run was invalid; returns the first valid run, else the last one."""
        for _ in range(TRIES):
            measured = self.load(per_second, seconds)
            if measured.is_valid:
                break
        return measured

    def calm_down(self) -> None:
        """Wait until the tasks that were submitted have been answered."""
        limit = time.monotonic() + CALM_SECONDS
        while time.monotonic() < limit:
            meter = Meter(self.target.parts())
            time.sleep(1)
            if sum(meter.seconds().values()) < CALM_CORES:
                return


@dataclass
class Found:
    """What was measured on one kind of backends.

    climb: a run for each rate. held: the highest rate that was held; 0 where none was. rounds: at that rate.
    at_goal: where that rate was not held, what happens at it.
    """

    server: Server
    idle: Measured
    climb: list[Measured] = field(default_factory=list)
    held: int = 0
    rounds: list[Measured] = field(default_factory=list)
    at_goal: Measured | None = None
    soak: Measured | None = None


def default_web_processes() -> int:
    """A core for each: worker, database and model together take less than half of one."""
    return os.cpu_count() or 1


@contextmanager
def serving(backends: Backends, scale: Scale, *, web_processes: int = 1) -> Iterator[Server]:
    """Start everything, and make the rows and the users."""
    settings = {
        "SUTAZAI_WEB_PROCESSES": str(web_processes),
        # Signing in is nobody's request yet; all of them come from one address.
        "SUTAZAI_ANONYMOUS_REQUESTS_PER_MINUTE": "10000000",
    }
    with DoubleProcess([MODEL]) as double, running_group(backends, double, slots=SLOTS, settings=settings) as group:
        began = time.monotonic()
        seeded = json.loads(group.run("bench.load.seed", str(scale.divide_rows_by)))
        say(f"{backends.name}: {seeded['rows']} rows in {time.monotonic() - began:.0f} s")
        with GeneratorProcess(group.url, seeded) as generator:
            yield Server(Ours(group, backends), generator, seeded["rows"], len(seeded["users"]), web_processes)


def measure(server: Server, scale: Scale, *, rate: int = 0, has_soak: bool = True) -> Found:
    """Measure everything. rate: to be measured at, instead of the highest that is held."""
    server.load(scale.rates[0], scale.warm_up_seconds)
    found = Found(server, idle=server.load(0, scale.idle_seconds))
    if rate:
        found.held = rate
    else:
        _climb(found, scale)
    if found.held:
        found.rounds = [server.load_validly(found.held, scale.round_seconds) for _ in range(scale.rounds)]
        if has_soak and scale.soak_seconds:
            found.soak = server.load_validly(found.held, scale.soak_seconds)
    if not rate and found.held < scale.rates[-1] and found.climb[-1].run.per_second < scale.rates[-1]:
        found.at_goal = server.load(scale.rates[-1], scale.rate_seconds)
    return found


def _climb(found: Found, scale: Scale) -> None:
    for per_second in scale.rates:
        measured = found.server.load_validly(per_second, scale.rate_seconds)
        found.climb.append(measured)
        if measured.missed:
            return
        found.held = per_second


def told(measured: Measured) -> str:
    run = measured.run
    errors = [f"{count} × {reason}" for reason, count in run.errors.most_common()]
    details = "; ".join([measured.verdict, *measured.missed, *errors])
    return f"{run.requests} requests, {HEALTH_KIND.name} {measured.median_of(HEALTH_KIND.name):.1f} ms, {details}"
