import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from agents.engine.capacity import MOST_SLOTS
from tests.agents.engine.factories import MODEL, make_agent, make_node, submit_task, succeed, take

pytestmark = pytest.mark.django_db


def told(*options: str) -> str:
    out = io.StringIO()
    call_command("capacity", *options, stdout=out)
    return out.getvalue()


def planned(*options: str) -> dict:
    (model,) = json.loads(told("--json", *options))["models"]
    return model["plan"]


@pytest.fixture
def an_hour_of_work(fake_clock):
    """Twelve tasks, one after another, that hold a slot for 30 seconds each."""
    fake_clock.moment = timezone.now().replace(second=0, microsecond=0)
    make_node(name="gpu1", slots=2)
    agent = make_agent()
    for _ in range(12):
        ticket = take(submit_task(agent))
        fake_clock.advance(30)
        assert succeed(ticket, "")


@pytest.mark.usefixtures("an_hour_of_work")
def test_it_tells_people_what_they_want_to_know():
    text = told()
    assert MODEL in text
    assert "1.2 (measured: 0.00833, in the busiest 10 minutes 1.2)" in text
    assert "30 s, standard deviation 0 ms (of 12 tasks)" in text
    assert "2 (2 on gpu1)" in text
    assert "30 %" in text
    assert "P95 up to 5 min 00 s  takes 1 slot" in text


@pytest.mark.usefixtures("an_hour_of_work")
def test_it_tells_programs_the_same():
    found = planned("--model", MODEL, "--wait-target", "0")
    assert found["tasks_per_minute"] == pytest.approx(1.2)
    assert found["utilisation"] == pytest.approx(0.3)
    assert 0 < found["mean_wait_seconds"] < 2
    assert found["slots_needed"] == 3


@pytest.mark.usefixtures("an_hour_of_work")
def test_options_take_the_place_of_what_was_measured():
    assumed = ("--per-minute", "60", "--service-seconds", "4", "--slots", "3", "--wait-target", "2")
    found = planned("--model", MODEL, *assumed)
    assert (found["slots"], found["deviation_seconds"], found["mean_wait_seconds"]) == (3, 4, None)
    assert found["utilisation"] == pytest.approx(4 / 3)
    assert found["queue_grows_per_hour"] == pytest.approx(900)
    text = told("--model", MODEL, *assumed)
    assert "by 900 tasks an hour, as long as this lasts" in text
    assert "4 s, standard deviation 4 s (assumed)" in text


def test_it_plans_for_a_model_that_nobody_has_run_yet():
    found = planned("--model", "Llama3", "--per-minute", "6", "--service-seconds", "10", "--deviation-seconds", "0")
    assert (found["slots"], found["utilisation"], found["slots_needed"]) == (0, None, 2)


def test_without_any_task_it_says_what_is_missing():
    make_node()
    with pytest.raises(CommandError, match="No task of any model ended within the last 24 hours"):
        told()
    with pytest.raises(CommandError, match="No task of llama3:latest ended within the last 2 hours"):
        told("--model", "llama3", "--hours", "2")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--slots", "0"], "not a number of slots"),
        (["--slots", "²"], "not a number of slots"),
        (["--slots", str(MOST_SLOTS + 1)], "not a number of slots"),
        (["--per-minute", "-1"], "not a number from 0"),
        (["--per-minute", "nan"], "not a number from 0"),
        (["--service-seconds", "0"], "not a number above 0"),
        (["--service-seconds", "soon"], "not a number above 0"),
        (["--wait-target", "inf"], "not a number from 0"),
        (["--hours", "0"], "not a number of hours"),
        (["--per-minute", "5"], "Name the model"),
        (["--model", "a", "--deviation-seconds", "5"], "goes with --service-seconds"),
        (["--model", "a", "--per-minute", "900000", "--service-seconds", "900000"], "Check the numbers"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, problem):
    with pytest.raises(CommandError, match=problem):
        told(*options)
