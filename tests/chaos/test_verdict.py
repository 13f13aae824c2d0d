"""The checks of a chaos run, on streams that break the rules and streams that keep them."""

import json

import pytest

from bench.chaos.outages import too_soon
from bench.chaos.verdict import Verdict, reruns
from bench.client import Event, Following


def following(*events: tuple[int, str, dict[str, object]], seconds: float = 1.0) -> Following:
    """A follower that received these events, one after the other at this distance."""
    result = Following()
    result.events = [
        Event(number, type_, json.dumps(data), position * seconds)
        for position, (number, type_, data) in enumerate(events)
    ]
    return result


def text(value: str) -> dict[str, object]:
    return {"text": value}


DONE = {"status": "succeeded"}
RESET = {"status": "queued", "reset": True}


def test_a_stream_with_every_event_once_is_gapless_and_complete() -> None:
    whole = following((1, "state", {"status": "running"}), (2, "delta", text("a")), (3, "done", DONE))
    assert whole.is_gapless
    assert whole.is_complete


@pytest.mark.parametrize("numbers", [(1, 3), (1, 1), (2, 1), (2, 3)])
def test_a_gap_a_double_and_a_swap_are_noticed(numbers: tuple[int, int]) -> None:
    assert not following(*((number, "delta", text("a")) for number in numbers)).is_gapless


def test_a_second_end_is_noticed() -> None:
    assert not following((1, "done", DONE), (2, "done", DONE)).is_gapless


def test_the_text_begins_again_after_a_reset() -> None:
    parts = following(
        (1, "delta", text("void")), (2, "state", RESET), (3, "delta", text("a")), (4, "delta", text("b"))
    )
    assert parts.text == "ab"


def test_a_rerun_lasts_from_the_death_to_the_next_output() -> None:
    stream = following(
        (1, "delta", text("void")), (2, "state", RESET), (3, "state", {"status": "running"}), (4, "delta", text("a"))
    )
    assert list(reruns(stream, [0.5])) == [2.5]


def test_a_task_that_did_not_answer_when_the_worker_died_has_no_rerun() -> None:
    stream = following((1, "state", {"status": "running"}), (2, "state", RESET), (3, "delta", text("a")))
    assert list(reruns(stream, [0.5])) == []


@pytest.mark.parametrize("name", ["lost", "duplicated", "unexpected", "unfinished", "died", "cut", "misnumbered"])
def test_each_count_breaks_a_requirement(name: str) -> None:
    verdict = Verdict("fault")
    assert verdict.broken(5) == {}
    setattr(verdict, name, 2)
    assert verdict.broken(5) == {name: 2}


def test_a_late_rerun_breaks_a_requirement() -> None:
    assert Verdict("fault", rerun_seconds=[4.9, 5.1]).broken(5) == {"rerun too late": 1}


@pytest.mark.parametrize(
    ("gaps", "wrong"),
    [
        ([3, 3.1, 2.9, 3], []),
        ([3, 5, 1, 3], []),  # one was late
        ([3, 0.2, 2.9, 3], [0.2]),  # one came twice
        ([1.5] * 6, [1.5] * 3),  # two beats, each in its own time
        ([3, 63, 3, 3], []),  # nobody sent it for a minute
        ([3, 63, 0.1, 3], [0.1]),
    ],
)
def test_turns_that_come_before_their_time_are_found(gaps: list[float], wrong: list[float]) -> None:
    assert list(too_soon(gaps, 3)) == wrong
