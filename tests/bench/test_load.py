"""The load: that its generator tells the truth about a server, and about itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.group import embedded_backends
from bench.load import generator, mix, watch
from bench.load.__main__ import measured_text
from bench.load.generator import Generator, Order, Run, Times
from bench.load.measure import QUICK, measure, serving
from bench.load.verdict import Measured
from bench.load.watch import Costs, slope

USERS = 20
# What stands in the bodies that every kind of request expects, of every user.
EVERYTHING = (
    '{"results":[{}],"task":1,"messages_url":1,"refresh":"next","limits":1,"wall_seconds":1,"type":"done","status":1,'
    '"ids":["agent-id","task-id","session-id","ada"]}'
)


def seeded() -> dict[str, Any]:
    person = {
        "name": "ada",
        "key": "key",
        "refresh": "first",
        "agents": [{"id": "agent-id", "name": "helper"}],
        "sessions": ["session-id"],
        "tasks": ["task-id"],
    }
    return {"password": "secret", "users": [dict(person) for _ in range(USERS)]}


class Server:
    """Answers everything as it should be, unless it is told otherwise. seen: method and address of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.body = EVERYTHING
        self.status: int | None = None
        self.before: Callable[[], Awaitable[None]] | None = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode().split(" ", 2)
                lengths = [line for line in head.decode().split("\r\n") if line.lower().startswith("content-length")]
                if lengths:
                    await reader.readexactly(int(lengths[0].split(":")[1]))
                self.seen.append((method, path))
                if self.before and path != "/health":
                    await self.before()
                status = self.status or _status(method, path)
                body = self.body.encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _status(method: str, path: str) -> int:
    """The one that the kind of request with this address expects."""
    if method == "POST" and path == "/api/v1/tasks/":
        return 202
    return 201 if method == "POST" and path == "/api/v1/sessions/" else 200


def loaded(server: Server, *orders: Order) -> list[Run]:
    async def run() -> list[Run]:
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        loading = Generator(f"http://127.0.0.1:{port}", seeded())
        await loading.open()
        runs = [await loading.run(order) for order in orders]
        loading.close()
        listening.close()
        return runs

    return asyncio.run(run())


def test_it_sends_what_was_ordered_and_finds_nothing_wrong():
    server = Server()
    (run,) = loaded(server, Order(per_second=300, seconds=1.5, is_even=True))
    assert run.requests == pytest.approx(450, abs=5)
    assert run.kinds["GET /health"].requests == pytest.approx(1.5 * generator.HEALTH_PER_SECOND, abs=2)
    assert run.errors == {}
    assert len(server.seen) == run.requests + run.kinds["GET /health"].requests + USERS
    assert ("POST", "/api/v1/tasks/") in server.seen
    assert 0 < run.cpu < 1


def test_by_chance_as_many_come_as_at_equal_distances():
    (run,) = loaded(Server(), Order(per_second=400, seconds=1.5))
    assert run.requests == pytest.approx(600, abs=100)


def test_an_idle_server_is_only_asked_for_its_health():
    (run,) = loaded(Server(), Order(per_second=0, seconds=0.5))
    assert (run.requests, list(run.kinds)) == (0, ["GET /health"])


def test_who_waits_for_a_server_that_stalls_is_counted():
    """All who were due while it stood still waited for it: half of the stall, on average."""
    server = Server()
    ends_at: list[float] = []

    async def stall() -> None:
        """Stand still for a second and a half from the first request on."""
        ends_at.append(time.monotonic() + 1.5)
        await asyncio.sleep(max(0.0, ends_at[0] - time.monotonic()))

    server.before = stall
    (run,) = loaded(server, Order(per_second=200, seconds=3, is_even=True))
    slow = [times for name, times in run.kinds.items() if name != "GET /health"]
    assert max(times.most for times in slow) > 1000
    assert max(times.p95 for times in slow if times.requests > 40) > 1000
    assert run.requests == pytest.approx(600, abs=5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"status": 503}, "status 503"), ({"status": 429}, "status 429"), ({"body": "{}"}, "wrong body")],
)
def test_what_is_wrong_is_counted_by_its_reason(change, reason):
    server = Server()
    for name, value in change.items():
        setattr(server, name, value)
    (run,) = loaded(server, Order(per_second=100, seconds=1))
    assert run.error_percent == 100
    assert {text.partition(" (")[0] for text in run.errors} == {reason}


def test_broken_connections_and_long_waits_are_errors(monkeypatch):
    monkeypatch.setattr(generator, "TIMEOUT_SECONDS", 0.2)
    server = Server()

    async def hang() -> None:
        await asyncio.sleep(0.5)

    async def reset() -> None:
        raise ConnectionError

    server.before = hang
    (run,) = loaded(server, Order(per_second=50, seconds=0.5))
    assert {text.partition(" (")[0] for text in run.errors} == {"timeout"}
    server.before = reset
    (run,) = loaded(server, Order(per_second=50, seconds=0.5))
    assert {text.partition(" (")[0] for text in run.errors} == {"reset"}


def test_a_refresh_token_is_sent_once():
    """Where nobody knows whether it was used up, the user has to sign in again."""
    server = Server()
    user = mix.User(None, "ada", "secret", "first", [], [], [])  # type: ignore[arg-type]
    (refresh,) = (kind for kind in mix.KINDS if kind.name == mix.REFRESH)
    refresh.ask(user, None)  # type: ignore[arg-type]
    assert not user.may_refresh
    server.status = 500
    (run,) = loaded(server, Order(per_second=400, seconds=1))
    assert run.kinds[mix.REFRESH].requests <= USERS


def test_the_shares_of_the_mix_are_those_that_were_agreed():
    shares = dict.fromkeys((mix.READ, mix.LIST, mix.WRITE, mix.AUTH), 0.0)
    for kind in mix.KINDS:
        shares[kind.group] += kind.percent
    assert {group: round(share, 6) for group, share in shares.items()} == {
        mix.READ: 70,
        mix.LIST: 15,
        mix.WRITE: 10,
        mix.AUTH: 5,
    }


# The verdict ---------------------------------------------------------------------------------------------------------

FAST = Times(100, median=1, p95=2, p99=3, most=4)
GOOD = Measured(
    Run(500, 60, {kind.name: FAST for kind in (*mix.KINDS, mix.HEALTH_KIND)}, lag_p99=4, lag_most=9, cpu=0.5),
    Costs(60, {"web": 0.9}, steal=0.5, memory=[(0, 100), (1, 100)]),
)


def changed(kind: str, **times: Any) -> Measured:
    return replace(GOOD, run=replace(GOOD.run, kinds=GOOD.run.kinds | {kind: replace(FAST, **times)}))


def test_a_run_in_which_all_is_well_is_held():
    assert (GOOD.flaws, GOOD.missed, GOOD.verdict) == ([], [], "held")


@pytest.mark.parametrize(
    "measured",
    [
        replace(GOOD, run=replace(GOOD.run, lag_p99=5.1)),
        replace(GOOD, run=replace(GOOD.run, cpu=0.71)),
        replace(GOOD, costs=replace(GOOD.costs, steal=1.1)),
    ],
)
def test_a_generator_or_a_machine_that_was_not_fit_makes_a_run_invalid(measured):
    assert (len(measured.flaws), measured.missed) == (1, [])
    assert measured.verdict == f"held, but invalid: {measured.flaws[0]}"


@pytest.mark.parametrize(
    "measured",
    [
        changed("GET /health", median=10),
        changed(mix.AGENTS, p95=200),
        changed(mix.SUBMIT, p95=100),
        changed("GET /api/me", p95=200),
        changed("GET /api/me", errors={"timeout": 2}),
    ],
)
def test_a_goal_that_is_missed_is_told(measured):
    assert (measured.flaws, len(measured.missed), measured.verdict) == ([], 1, "missed")


def test_one_error_in_many_is_no_missed_goal():
    assert changed("GET /api/me", errors={"timeout": 1}).missed == []


def test_the_slowest_of_the_others_is_named():
    assert changed("GET /api/me", p95=50).slowest_other == ("GET /api/me", 50)


def test_memory_has_the_slope_of_the_line_through_it():
    assert slope([(0, 100), (10, 101), (20, 102)]) == pytest.approx(0.1)
    assert slope([(0, 100), (10, 90), (20, 100), (30, 90)]) == pytest.approx(-0.2)
    assert slope([(5, 100)]) == 0
    assert Costs(1, {}, 0, [(0, 100), (3600, 104)]).memory_slope == pytest.approx(4)


def test_the_kernel_tells_of_time_that_passed():
    before = watch.machine_time()
    sum(range(3_000_000))
    after = watch.machine_time()
    assert after[0] > before[0]
    assert 0 <= before[1] <= after[1] <= after[0]


# From end to end -----------------------------------------------------------------------------------------------------


def test_it_measures_a_whole_group():
    with embedded_backends() as backends, serving(backends, QUICK) as server:
        found = measure(server, QUICK)
        text = measured_text("", QUICK, [found])
    assert server.rows == 5_000
    runs = [found.idle, *found.climb, *found.rounds, *([found.at_goal] if found.at_goal else [])]
    assert [item.run.errors for item in runs] == [{}] * len(runs)
    assert all(item.costs.cores["web"] > 0 for item in found.climb)
    assert "5,000 seeded, of 50 users" in text
