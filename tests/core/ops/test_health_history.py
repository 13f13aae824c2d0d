"""How the parts were, written down by one process."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.models import HealthChange, Lease
from core.ops import health, health_history, probes
from core.ops.alerts import watch
from core.ops.health import Health
from core.ops.health_history import Writer
from core.ops.probes import UP, Finding, State

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

DOWN = Finding(State.DOWN, "gone")
MINUTE = timedelta(minutes=1)
Look = Callable[..., None]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Have this process look at parts that are as the test says."""
    found: dict[str, Finding] = {}
    monkeypatch.setattr(probes, "_probes", {name: lambda name=name: found[name] for name in ("broker", "disk")})
    monkeypatch.setattr(health, "_health", Health())

    def look(**parts: Finding) -> None:
        found.update({"broker": UP, "disk": UP, **parts})
        health._health.look()

    return look


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_health", Health())


def written() -> list[tuple[str, str]]:
    return list(HealthChange.objects.order_by("at", "pk").values_list("part", "state"))


def test_a_change_is_a_row_and_what_stays_is_none(look: Look) -> None:
    writer = Writer()
    for parts in ({}, {}, {"broker": DOWN}, {"broker": DOWN}, {}):
        look(**parts)
        writer.write(None)
    assert written() == [("broker", "up"), ("disk", "up"), ("broker", "down"), ("broker", "up")]
    assert HealthChange.objects.filter(state="down").get().detail == "gone"


def test_what_changed_twice_between_two_words_is_told(look: Look) -> None:
    writer = Writer()
    look()
    writer.write(None)
    look(broker=DOWN)
    look()
    writer.write(None)
    assert written()[2:] == [("broker", "down"), ("broker", "up")]


def test_while_nothing_changes_the_database_is_not_asked(look: Look, django_assert_num_queries: Any) -> None:
    writer = Writer()
    look()
    writer.write(None)
    look()
    with django_assert_num_queries(0):
        writer.write(None)


def test_a_process_that_goes_on_writes_nothing_twice(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look()
    look(broker=DOWN)
    Writer().write(None)
    another_process(monkeypatch)
    look(broker=DOWN)
    Writer().write(datetime.now(UTC) - MINUTE)
    assert written() == [("broker", "up"), ("disk", "up"), ("broker", "down")]


def test_one_that_waited_writes_what_nobody_did(look: Look) -> None:
    """Its own changes are older than what the first one wrote, but for the last."""
    first, second = Writer(), Writer()
    look()
    look(broker=DOWN)
    look()
    first.write(None)
    health._health = again = Health()
    look()
    look(broker=DOWN)
    assert len(again.changes()) == 3
    second.write(datetime.now(UTC))
    assert written() == [("broker", "up"), ("disk", "up"), ("broker", "down"), ("broker", "up"), ("broker", "down")]


def test_what_could_not_be_written_is_written_later(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    look()
    writer.write(None)
    look(broker=DOWN)
    look()
    with monkeypatch.context() as patch:
        patch.setattr(HealthChange.objects, "bulk_create", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            writer.write(None)
    writer.write(None)
    assert written()[2:] == [("broker", "down"), ("broker", "up")]


def test_while_nobody_looked_nobody_knows(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look()
    Writer().write(None)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    HealthChange.objects.update(at=hour_ago - MINUTE)
    another_process(monkeypatch)
    look()
    writer = Writer()
    writer.write(hour_ago)
    writer.write(hour_ago)
    assert written() == [
        *(("broker", "up"), ("disk", "up"), ("broker", "unknown"), ("disk", "unknown")),
        *(("broker", "up"), ("disk", "up")),
    ]


def test_a_restart_is_no_gap(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look()
    Writer().write(None)
    another_process(monkeypatch)
    look()
    Writer().write(datetime.now(UTC) - MINUTE)
    assert len(written()) == 2


def test_the_process_that_watches_the_alerts_writes(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "start", lambda: None)
    monkeypatch.setattr(watch, "_history", Writer())
    look()
    watching = watch.Watch()
    assert watch.turn(watching, 1000.0)
    assert len(written()) == 2
    look(broker=DOWN)
    Lease.objects.update(holder="elsewhere/1/1")
    assert not watch.turn(watching, 1001.0)
    assert len(written()) == 2


# Reading


def change(state: str, ago: timedelta, part: str = "broker") -> None:
    HealthChange.objects.create(part=part, state=state, at=datetime.now(UTC) - ago)


def test_periods_begin_where_they_began_and_equal_ones_are_one(look: Look) -> None:
    for state, minutes in (("up", 100), ("down", 50), ("down", 40), ("up", 30)):
        change(state, minutes * MINUTE)
    found = health_history.periods(datetime.now(UTC) - 60 * MINUTE)
    assert found["disk"] == []
    assert [period.state for period in found["broker"]] == ["up", "down", "up"]
    up, down, last = found["broker"]
    assert (round(down.seconds(datetime.now(UTC))), last.end) == (1200, None)
    assert up.end == down.start
    assert health_history.outages(found) == [down]


def test_parts_that_nobody_looks_at_any_more_are_left_out(look: Look) -> None:
    change("down", MINUTE, part="kettle")
    assert set(health_history.periods(datetime.now(UTC) - 60 * MINUTE)) == {"broker", "disk"}


def test_the_number_of_queries_does_not_grow(look: Look, django_assert_num_queries: Any) -> None:
    for minutes in range(1, 20):
        change("down" if minutes % 2 else "up", minutes * MINUTE)
    with django_assert_num_queries(2):
        health_history.periods(datetime.now(UTC) - 10 * MINUTE)
