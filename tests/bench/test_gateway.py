"""The measurement of the gateway: that it runs from end to end, and what it makes of what it found."""

import asyncio
import math
from collections.abc import Iterator

import pytest

from bench.gateway import load, measure, sharing, streams, tables
from bench.gateway.__main__ import found
from bench.gateway.double import DoubleProcess
from bench.gateway.load import Counted, Load
from bench.gateway.measure import QUICK, Measured, Run
from bench.gateway.streams import Streams
from bench.gateway.swaps import Swaps
from bench.gateway.tables import Figure
from bench.gateway.targets import LITELLM_VARIABLE, Direct, Target


def test_it_measures_us_where_there_is_no_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LITELLM_VARIABLE, raising=False)
    with measure.started(QUICK, "embedded") as run:
        asyncio.run(measure.measure(run))
    ours = run.measured[run.ours[0].name]
    assert ours.start_seconds > 0
    assert 0 < ours.idle.serving < ours.idle.everything
    assert 0 < ours.loaded.serving < ours.loaded.everything
    for rounds in ours.loads.values():
        assert [item.counted.failed for item in rounds] == [0] * QUICK.rounds
        assert all(item.per_second > 0 and item.cpu["web"] > 0 for item in rounds)
    assert [item.whole for item in ours.streams] == [QUICK.rungs[0]] * QUICK.rounds
    assert len(ours.first_token) == QUICK.rounds
    assert len(ours.held) == QUICK.climbs
    text = "\n".join(found(run))
    assert f"not measured, {LITELLM_VARIABLE} does not name its executable" in text
    assert "calls per second, 16 connections" in text


# Load and streams ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def double() -> Iterator[DoubleProcess]:
    with DoubleProcess(["double"]) as process:
        yield process


by_both_kinds_of_clients = pytest.mark.parametrize(
    "ask",
    [
        load.ask_by_client,
        pytest.param(load.ask_by_wrk, marks=pytest.mark.skipif(not load.has_wrk(), reason="wrk is not installed")),
    ],
)


@by_both_kinds_of_clients
def test_clients_tell_what_the_upstream_got(double: DoubleProcess, ask: load.Asker) -> None:
    direct, calls = Direct(double), double.calls
    counted = asyncio.run(ask(direct, direct.body("hello"), 4, 1))
    # wrk leaves those unanswered that are under way at the end.
    assert 0 < counted.requests <= double.calls - calls <= counted.requests + 4
    assert counted.failed == 0
    assert 0 < counted.median <= counted.p95


@by_both_kinds_of_clients
def test_refusals_are_no_answers(double: DoubleProcess, ask: load.Asker) -> None:
    direct = Direct(double)
    counted = asyncio.run(ask(direct, direct.body("hello", knobs="t1"), 2, 1))
    assert counted.requests == counted.failed > 0
    assert Load(counted, {}, {}).per_second == 0


@pytest.mark.parametrize(
    ("whole", "first_token", "gap", "are_held"),
    [(50, 999, 99, True), (49, 10, 50, False), (50, 1001, 50, False), (50, 10, 101, False)],
)
def test_streams_are_held_that_are_whole_soon_and_even(
    whole: int, first_token: float, gap: float, are_held: bool
) -> None:
    assert Streams(50, whole, first_token, gap, 0).are_held is are_held


@pytest.mark.parametrize(
    ("can_hold", "earlier", "ends_at", "tried"),
    [
        (300, [], 250, [50, 100, 250, 500]),
        (1000, [], 1000, [50, 100, 250, 500, 1000]),
        (40, [], 0, [50]),
        (300, [0, 250], 250, [250, 500]),
        (60, [250], 50, [250, 100, 50]),
        (40, [100], 0, [100, 50]),
        (60, [0], 50, [50, 100]),
    ],
)
def test_a_climb_begins_where_the_last_one_ended(
    can_hold: int, earlier: list[int], ends_at: int, tried: list[int]
) -> None:
    seen = []

    async def are_held(count: int) -> bool:
        seen.append(count)
        return count <= can_hold

    assert asyncio.run(streams.climb((50, 100, 250, 500, 1000), earlier, are_held)) == ends_at
    assert seen == tried


def test_a_perfect_cache_would_reach_the_goal_of_the_repeating_load() -> None:
    calls = measure.FULL.repeats
    questions = sharing.zipf(calls)
    assert 0.8 < 1 - len(set(questions)) / calls < 0.9
    assert questions.count(1) == pytest.approx(2 * questions.count(2), rel=0.2)


# Tables --------------------------------------------------------------------------------------------------------------


def test_better_means_more_of_some_and_less_of_others() -> None:
    rate = Figure("calls", 8, 15, lambda *_: [], 0, more_is_better=True)
    assert rate.times(rate.better(900, 100)) == "9×"
    cost = Figure("CPU", 8, 15, lambda *_: [], 0)
    assert cost.times(cost.better(2, 15)) == "1/7.5"
    assert cost.better(30, 15) == 0.5
    assert cost.better(0, 15) == math.inf


def test_the_better_route_of_litellm_counts(double: DoubleProcess) -> None:
    run = made_up_run(double)
    line = row(tables.compared_table(run), "calls per second, 16 connections")
    assert line == ["8×", "15×", "100 (90–110)", "1000 (900–1100)", "10×"]
    line = row(tables.compared_table(run), "CPU for a call, 16 connections")
    assert line == ["1/8", "1/15", "10.00 ms (9.09–11.11)", "1.00 ms (0.91–1.11)", "1/10"]
    line = row(tables.compared_table(run), "streams held at 20 tokens/s each")
    assert line == ["5×", "10×", "50", "500", "10×"]


def test_what_is_not_there_yet_is_named(double: DoubleProcess) -> None:
    run = made_up_run(double)
    assert row(tables.shared_table(run), "longest wait of them")[-1] == "no fair queue yet"
    run.measured["ours"].swaps = Swaps(loads=3, longest_wait=1.25)
    assert row(tables.shared_table(run), "longest wait of them")[-1] == "1.2 s"
    assert row(tables.shared_table(run), "loads for the models")[-1] == "3"
    assert row(tables.shared_table(run), "repeating load")[-1] == "no cache yet"


def made_up_run(double: DoubleProcess) -> Run:
    """Three targets whose figures are round numbers: ours is ten times better than LiteLLM's better route."""
    targets = {name: Target(name, "http://nowhere") for name in ("OpenAI", "Ollama", "ours")}
    run = Run(QUICK, Direct(double), [targets["Ollama"], targets["OpenAI"]], [targets["ours"]], double)
    for name, rate, held in (("directly", 10_000, 0), ("OpenAI", 100, 50), ("Ollama", 40, 0), ("ours", 1000, 500)):
        rounds = [made_up_load(rate * share) for share in (1.1, 0.9, 1.0)]
        some = [Streams(50, 50, 10, 50, 1e6 / rate)]
        run.measured[name] = Measured(
            loads={1: rounds, 16: rounds}, first_token=[1000 / rate], streams=some, held=[held]
        )
    return run


def made_up_load(per_second: float) -> Load:
    cost = 1000 / per_second
    return Load(Counted(int(per_second), 1, cost, cost, 0), {"server": cost}, {})


def row(table: str, name: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]
