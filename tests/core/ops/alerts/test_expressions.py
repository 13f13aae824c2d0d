"""What no case of a rule shows. The rest: `test_rules`, against Prometheus itself."""

import pytest

from core.ops.alerts.expressions import (
    MIN_WINDOW_SECONDS,
    WINDOW_SECONDS,
    Compared,
    Increase,
    Latest,
    Metric,
    Past,
    Quantile,
    Ratio,
    Samples,
    TooEarly,
)

COUNT = Increase(Metric("count_total"))
BUCKETS = Increase(Metric("seconds_bucket"), by=("le",))


def counted(*values: tuple[float, float]) -> Past:
    """A counter at so many seconds each."""
    past = Past()
    for at, value in values:
        past.note([COUNT], Samples(at, [("count_total", {}, value)]))
    return past


def test_it_says_nothing_before_it_has_counted_for_a_minute() -> None:
    with pytest.raises(TooEarly):
        Past().increase(COUNT)
    with pytest.raises(TooEarly):
        counted((0, 1), (MIN_WINDOW_SECONDS - 1, 9)).increase(COUNT)
    assert counted((0, 1), (MIN_WINDOW_SECONDS, 9)).increase(COUNT) == {(): 8}


def test_it_looks_back_as_far_as_the_window() -> None:
    past = counted(*((at, at) for at in range(0, 2001, 20)))
    assert past.increase(COUNT) == {(): WINDOW_SECONDS}
    assert len(past._totals[COUNT]) == WINDOW_SECONDS / 20 + 1


def test_a_counter_that_was_started_anew_counts_from_nothing() -> None:
    assert counted((0, 1000), (60, 7)).increase(COUNT) == {(): 7}


def test_a_series_that_is_new_counts_from_nothing() -> None:
    past = Past()
    past.note([COUNT], Samples(0, []))
    past.note([COUNT], Samples(60, [("count_total", {}, 3)]))
    assert past.increase(COUNT) == {(): 3}


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({"1.0": 10, "5.0": 20, "+Inf": 20}, 4.6),  # the 19th of 20 is 9/10 of the way through the second
        ({"1.0": 0, "5.0": 0, "+Inf": 20}, 5.0),  # beyond the last bound, of which nothing is known
        ({"1.0": 20, "5.0": 20, "+Inf": 20}, 0.95),
        ({"1.0": 0, "+Inf": 0}, None),
        ({"+Inf": 5}, None),
        ({"1.0": 5}, None),
        ({}, None),
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(buckets: dict[str, float], expected: float | None) -> None:
    past = Past()
    past.note([BUCKETS], Samples(0, []))
    past.note([BUCKETS], Samples(60, [("seconds_bucket", {"le": le}, count) for le, count in buckets.items()]))
    found = Quantile(0.95, BUCKETS).value(Samples(60, []), past)
    assert found == ({} if expected is None else {(): pytest.approx(expected)})


def test_nothing_is_divided_by_nothing() -> None:
    ratio = Ratio(Latest(Metric("a")), Latest(Metric("b")))
    assert ratio.value(Samples(0, [("a", {}, 1), ("b", {}, 0)]), Past()) == {}
    assert ratio.value(Samples(0, [("a", {}, 1)]), Past()) == {}
    assert ratio.value(Samples(0, [("a", {}, 1), ("b", {}, 4)]), Past()) == {(): 0.25}


def test_a_limit_that_nobody_tells_is_never_exceeded() -> None:
    condition = Compared(Latest(Metric("a")), ">", Metric("limit"))
    assert condition.breaches(Samples(0, [("a", {}, 9)]), Past()) == {}
    assert condition.breaches(Samples(0, [("a", {}, 9), ("limit", {}, 8)]), Past()) == {(): (9, 8)}
