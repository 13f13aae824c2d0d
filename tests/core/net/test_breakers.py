"""Circuit breakers: their states, their probes, and the people who overrule them."""

import logging
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import IntegrityError, connection
from prometheus_client import REGISTRY

from core.models import AuditEntry, CircuitBreaker, CircuitBreakerChange
from core.net import breakers
from core.net.breakers import Dependency, What
from core.net.errors import AddressRefused, BreakerOpen, ConnectFailed
from core.ops import metrics
from core.ops.processes import ProcessIdentity
from tests.factories import make_operator

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ROOT = Path(__file__).resolve().parents[3]
State, Forced, Kind = CircuitBreaker.State, CircuitBreaker.Forced, CircuitBreaker.Kind


@pytest.fixture(autouse=True)
def few_seconds(settings):
    settings.BREAKER_FAILURES = 3
    settings.BREAKER_WINDOW_SECONDS = 600
    settings.BREAKER_COOL_DOWN_SECONDS = 1
    settings.BREAKER_MAX_COOL_DOWN_SECONDS = 3


def make(name="node:gpu-1", *, is_open=False):
    breaker = CircuitBreaker.objects.create(name=name, kind=Kind.NODE)
    if is_open:
        breakers.failed(breaker.pk, "connection refused", is_certain=True)
    return read(breaker)


def read(breaker):
    return CircuitBreaker.objects.get(pk=breaker.pk)


def history(breaker):
    return list(breaker.changes.order_by("pk").values_list("what", flat=True))


def counted(name, to):
    return REGISTRY.get_sample_value("sutazai_circuit_breaker_transitions_total", {"name": name, "to": to}) or 0


# Counting -----------------------------------------------------------------------------------------------------------


def test_so_many_failures_in_a_row_open_it_and_say_why_and_since_when(fake_clock):
    breaker = make()
    for number in (1, 2, 3):
        assert read(breaker).state == State.CLOSED
        fake_clock.advance(1)
        breakers.failed(breaker.pk, f"failure {number}")
    found = read(breaker)
    assert (found.state, found.failures, found.why) == (State.OPEN, 3, "failure 3")
    assert found.opened_at == found.since == fake_clock.moment
    assert found.is_shut
    (change,) = found.changes.all()
    assert (change.what, change.reason, change.by, change.at) == (What.OPENED, "failure 3", "", fake_clock.moment)


def test_a_success_in_between_begins_a_new_count():
    breaker = make()
    for _ in range(5):
        breakers.failed(breaker.pk, "no")
        breakers.failed(breaker.pk, "no")
        breakers.succeeded(breaker.pk)
    assert (read(breaker).state, read(breaker).failures) == (State.CLOSED, 0)


def test_failures_far_apart_are_no_row(fake_clock):
    breaker = make()
    for _ in range(5):
        breakers.failed(breaker.pk, "no")
        fake_clock.advance(601)
    assert (read(breaker).state, read(breaker).failures) == (State.CLOSED, 1)


def test_one_failure_suffices_where_it_is_certain():
    assert make(is_open=True).state == State.OPEN


def test_what_fails_while_it_is_open_says_nothing_new(fake_clock):
    breaker = make(is_open=True)
    fake_clock.advance(0.5)
    breakers.failed(breaker.pk, "as old as the others", is_certain=True)
    assert read(breaker) == breaker
    assert read(breaker).why == "connection refused"
    assert read(breaker).probe_at == breaker.probe_at


def test_a_success_does_not_close_it():
    breaker = make(is_open=True)
    breakers.succeeded(breaker.pk)
    assert read(breaker).state == State.OPEN


def test_a_success_of_one_that_is_well_asks_and_writes_nothing(django_assert_num_queries):
    breaker = make()
    breakers.succeeded(breaker.pk)  # what is noted is read once a second
    with django_assert_num_queries(0):
        for _ in range(100):
            breakers.succeeded(breaker.pk)


def test_one_that_is_gone_is_left_alone():
    breaker = make(is_open=True)
    probe = breakers.take_probe(breaker.pk, at_once=True)
    CircuitBreaker.objects.all().delete()
    breakers.failed(breaker.pk, "no")
    breakers.suspect(breaker.pk)
    breakers.succeeded(breaker.pk)
    probe.failed("no")
    assert not CircuitBreaker.objects.exists()


# Probes -------------------------------------------------------------------------------------------------------------


def test_a_probe_is_due_after_the_cool_down_and_is_sent_once(fake_clock):
    breaker = make(is_open=True)
    assert breakers.due(Kind.NODE) == []
    assert breakers.take_probe(breaker.pk) is None
    fake_clock.advance(1)
    assert breakers.due(Kind.NODE) == [breaker.pk]
    assert breakers.due(Kind.DEPENDENCY) == []
    assert breakers.take_probe(breaker.pk) is not None
    assert (read(breaker).state, read(breaker).since) == (State.HALF_OPEN, fake_clock.moment)
    assert read(breaker).is_shut
    assert breakers.due(Kind.NODE) == []
    assert breakers.take_probe(breaker.pk) is None
    assert breakers.take_probe(breaker.pk, at_once=True) is None


def test_a_person_need_not_wait_for_the_cool_down(fake_clock):
    breaker = make(is_open=True)
    assert breakers.take_probe(breaker.pk, at_once=True) is not None


def test_a_probe_that_succeeds_closes_it(fake_clock):
    breaker = make(is_open=True)
    fake_clock.advance(1)
    breakers.take_probe(breaker.pk).succeeded()
    found = read(breaker)
    assert (found.state, found.failures, found.failed_probes) == (State.CLOSED, 0, 0)
    assert (found.opened_at, found.probe_at, found.why) == (None, None, "")
    assert found.since == fake_clock.moment
    assert history(breaker) == [What.OPENED, What.CLOSED]


def test_each_probe_that_fails_makes_the_next_wait_longer_up_to_a_limit(fake_clock):
    breaker = make(is_open=True)
    opened_at = breaker.opened_at
    waits = []
    for number in range(5):
        fake_clock.moment = read(breaker).probe_at
        breakers.take_probe(breaker.pk).failed(f"still nobody {number}")
        waits.append((read(breaker).probe_at - fake_clock.moment).total_seconds())
    assert waits == [2, 3, 3, 3, 3]
    found = read(breaker)
    assert (found.state, found.failed_probes, found.why) == (State.OPEN, 5, "still nobody 4")
    assert found.opened_at == opened_at
    assert history(breaker) == [What.OPENED]  # what was wrong first stays in sight


def test_the_cool_down_counts_from_the_beginning_of_the_probe(fake_clock):
    breaker = make(is_open=True)
    fake_clock.advance(1)
    probe = breakers.take_probe(breaker.pk)
    fake_clock.advance(10)
    probe.failed("ten seconds of silence")
    assert read(breaker).probe_at == fake_clock.moment


def test_a_probe_whose_process_stopped_is_released_by_its_lease_and_decides_nothing_then(fake_clock):
    breaker = make(is_open=True)
    fake_clock.advance(1)
    stopped = breakers.take_probe(breaker.pk)
    fake_clock.advance(breakers.PROBE_SECONDS + 1)
    assert breakers.due(Kind.NODE) == [breaker.pk]
    second = breakers.take_probe(breaker.pk)
    stopped.succeeded()
    assert read(breaker).state == State.HALF_OPEN
    second.failed("no")
    stopped.succeeded()
    assert read(breaker).state == State.OPEN


def test_a_probe_whose_process_died_here_is_released_at_once(fake_clock):
    breaker = make(is_open=True)
    fake_clock.advance(1)
    assert breakers.take_probe(breaker.pk)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    CircuitBreaker.objects.update(probe_holder=str(ProcessIdentity.of(process.pid)))
    assert breakers.due(Kind.NODE) == []
    process.kill()
    process.communicate()
    assert breakers.due(Kind.NODE) == [breaker.pk]
    assert breakers.take_probe(breaker.pk)


def test_of_those_who_saw_the_same_row_one_gets_the_probe(fake_clock, monkeypatch):
    breaker = make(is_open=True)
    fake_clock.advance(1)
    seen = []

    def somebody_else_is_faster(row, now):
        if not seen:
            seen.append(row)
            assert breakers.take_probe(breaker.pk) is not None
        return True

    monkeypatch.setattr(breakers, "_is_free", somebody_else_is_faster)
    assert breakers.take_probe(breaker.pk) is None
    assert read(breaker).probes == 1


PROBER = """
import sys
import django
django.setup()
from uuid import UUID
from core.models import CircuitBreaker
from core.net import breakers
key = UUID(sys.argv[1])
CircuitBreaker.objects.count()  # connected
print("ready", flush=True)
sys.stdin.readline()
print(sum(breakers.take_probe(key) is not None for _ in range(20)), flush=True)
sys.stdin.readline()
"""


@pytest.mark.django_db(transaction=True)
def test_of_eight_processes_one_sends_the_probe():
    breaker = make(is_open=True)
    CircuitBreaker.objects.update(probe_at=breaker.opened_at)
    environment = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROBER, str(breaker.pk)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        # They live until all have tried: the probe of one that died would be free again.
        taken = [int(process.stdout.readline()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sorted(taken) == [0] * 7 + [1]
    assert (read(breaker).state, read(breaker).probes) == (State.HALF_OPEN, 1)
    assert breakers.take_probe(breaker.pk) is not None  # they are dead now


def database_url():
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


# Suspicions ---------------------------------------------------------------------------------------------------------


def test_a_suspicion_asks_for_a_probe_and_shuts_nothing(fake_clock):
    breaker = make()
    breakers.suspect(breaker.pk)
    assert not read(breaker).is_shut
    assert breakers.due(Kind.NODE) == [breaker.pk]
    probe = breakers.take_probe(breaker.pk)
    assert not read(breaker).is_shut
    assert breakers.take_probe(breaker.pk) is None
    probe.succeeded()
    assert breakers.due(Kind.NODE) == []
    assert history(breaker) == []


def test_a_suspicion_that_proves_true_opens_it(fake_clock):
    breaker = make()
    breakers.suspect(breaker.pk)
    breakers.take_probe(breaker.pk).failed("it writes nothing")
    assert (read(breaker).state, read(breaker).why) == (State.OPEN, "it writes nothing")
    assert history(breaker) == [What.OPENED]


def test_suspicions_do_not_ask_for_one_probe_after_the_other(fake_clock):
    breaker = make()
    breakers.suspect(breaker.pk, pause_seconds=180)
    breakers.take_probe(breaker.pk).succeeded()
    fake_clock.advance(60)
    breakers.suspect(breaker.pk, pause_seconds=180)
    assert breakers.due(Kind.NODE) == []
    fake_clock.advance(120)
    assert breakers.due(Kind.NODE) == [breaker.pk]


@pytest.mark.parametrize("takes_back", [breakers.clear, breakers.succeeded])
def test_whoever_hears_from_it_takes_the_suspicion_back_also_from_a_probe_under_way(fake_clock, takes_back):
    breaker = make()
    breakers.suspect(breaker.pk)
    probe = breakers.take_probe(breaker.pk)
    takes_back(breaker.pk)
    probe.failed("it is busy")
    assert read(breaker).state == State.CLOSED
    assert breakers.due(Kind.NODE) == []


def test_to_hear_from_it_ends_no_row_of_failures():
    breaker = make()
    breakers.failed(breaker.pk, "it breaks off")
    breakers.suspect(breaker.pk)
    breakers.clear(breaker.pk)
    assert read(breaker).failures == 1


# Operators ----------------------------------------------------------------------------------------------------------


def test_a_reset_forgets_everything(fake_clock):
    breaker, operator = make(is_open=True), make_operator()
    breakers.hold(breaker.pk, Forced.OPEN, by=operator, reason="new disks")
    breakers.reset(breaker.pk, by=operator, reason="they are in")
    found = read(breaker)
    assert (found.state, found.forced, found.failures, found.why) == (State.CLOSED, Forced.NONE, 0, "")
    assert history(breaker) == [What.OPENED, What.HELD_OPEN, What.RESET]


def test_a_reset_overrules_the_probe_under_way(fake_clock):
    breaker = make(is_open=True)
    probe = breakers.take_probe(breaker.pk, at_once=True)
    breakers.reset(breaker.pk, by=make_operator())
    probe.failed("too late")
    assert read(breaker).state == State.CLOSED


def test_one_that_was_tripped_is_probed_after_a_minute(fake_clock):
    breaker = make()
    breakers.trip(breaker.pk, by=make_operator(username="ada"))
    assert (read(breaker).state, read(breaker).why) == (State.OPEN, "Tripped by ada.")
    fake_clock.advance(breakers.TRIPPED_SECONDS - 1)
    assert breakers.due(Kind.NODE) == []
    fake_clock.advance(1)
    assert breakers.due(Kind.NODE) == [breaker.pk]


def test_one_that_is_held_open_stays_so_and_is_not_probed(fake_clock):
    breaker = make(is_open=True)
    breakers.hold(breaker.pk, Forced.OPEN, by=make_operator(username="ada"), reason="new disks")
    fake_clock.advance(3600)
    assert breakers.due(Kind.NODE) == []
    assert breakers.take_probe(breaker.pk, at_once=True) is None
    breakers.end_holds()
    found = read(breaker)
    assert (found.is_shut, found.state_that_holds) == (True, "open")
    assert (found.why, found.forced_by) == ("new disks", "ada")


def test_one_that_is_held_closed_lets_everything_through(fake_clock):
    breaker = make(is_open=True)
    breakers.hold(breaker.pk, Forced.CLOSED, by=make_operator(), reason="the probe lies")
    assert not read(breaker).is_shut
    assert list(CircuitBreaker.objects.shut()) == []


def test_a_hold_ends_by_itself_and_leaves_what_calls_have_found(fake_clock):
    breaker = make(is_open=True)
    breakers.hold(breaker.pk, Forced.CLOSED, by=make_operator(), reason="for the demonstration", minutes=5)
    fake_clock.advance(299)
    breakers.end_holds()
    assert read(breaker).is_held
    fake_clock.advance(1)
    breakers.end_holds()
    assert (read(breaker).is_held, read(breaker).is_shut) == (False, True)
    assert history(breaker) == [What.OPENED, What.HELD_CLOSED, What.HOLD_ENDED]


def test_what_people_do_is_in_the_audit_log_and_the_rest_is_not(fake_clock):
    breaker, operator = make(is_open=True), make_operator(username="ada")
    breakers.hold(breaker.pk, Forced.CLOSED, by=operator, reason="why not", minutes=1)
    breakers.reset(breaker.pk, by=operator)
    breakers.trip(breaker.pk, by=operator, reason="to see")
    fake_clock.advance(60)
    breakers.take_probe(breaker.pk).succeeded()
    entries = AuditEntry.objects.filter(object_type="circuit-breaker").order_by("pk")
    assert [(entry.action, entry.detail, entry.actor_name) for entry in entries] == [
        ("circuit-breaker.held-closed", "why not", "ada"),
        ("circuit-breaker.reset", "", "ada"),
        ("circuit-breaker.tripped", "to see", "ada"),
    ]
    assert entries[0].changes["forced"] == ["none", "closed"]
    assert entries[1].changes["state"] == ["open", "closed"]
    assert {entry.object_name for entry in entries} == {breaker.name}


# What is left of it -------------------------------------------------------------------------------------------------


def test_only_the_latest_of_its_history_is_kept(monkeypatch):
    monkeypatch.setattr(breakers, "CHANGES_KEPT", 3)
    breaker, other, operator = make(), make("node:other", is_open=True), make_operator()
    for number in range(5):
        breakers.reset(breaker.pk, by=operator, reason=str(number))
    assert [change.reason for change in breaker.changes.all()] == ["4", "3", "2"]
    assert history(other) == [What.OPENED]


@pytest.mark.django_db(transaction=True)
def test_transitions_are_logged_and_counted(caplog):
    caplog.set_level(logging.INFO, "core.net.breakers")
    breaker = make("node:counted", is_open=True)
    breakers.take_probe(breaker.pk, at_once=True).failed("no")
    breakers.take_probe(breaker.pk, at_once=True).succeeded()
    counts = {state: counted("node:counted", state) for state in ("open", "half_open", "closed")}
    assert counts == {"open": 2, "half_open": 2, "closed": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "Breaker node:counted: opened. connection refused",
        "Breaker node:counted: closed by a probe. A probe succeeded.",
    ]


def test_the_metrics_tell_the_state_that_holds():
    names = ("well", "open", "half", "held")
    rows = {name: make(name, is_open=name != "well") for name in names}
    breakers.take_probe(rows["half"].pk, at_once=True)
    breakers.hold(rows["held"].pk, Forced.CLOSED, by=make_operator(), reason="it lies")
    text = metrics.page("")[1].decode()
    shown = {name: f'sutazai_circuit_breaker_state{{name="{name}"}} ' for name in names}
    for name, value in {"well": "0.0", "open": "1.0", "half": "0.5", "held": "0.0"}.items():
        assert shown[name] + value in text


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "open"},
        {"state": "half_open", "opened_at": "2030-01-01T00:00Z"},
        {"opened_at": "2030-01-01T00:00Z"},
        {"forced": "open"},
        {"forced_until": "2030-01-01T00:00Z"},
    ],
)
def test_the_database_refuses_what_cannot_be(changes):
    breaker = make()
    with pytest.raises(IntegrityError):
        CircuitBreaker.objects.filter(pk=breaker.pk).update(**changes)


# Dependencies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail():
    return Dependency("mail")


def fail(dependency, error=None):
    error = error or ConnectFailed("nobody there")
    with pytest.raises(type(error)), dependency.call():
        raise error


def row():
    return CircuitBreaker.objects.get(name="dependency:mail")


def test_a_dependency_is_in_sight_before_it_fails(mail):
    with mail.call():
        pass
    assert (row().state, row().kind) == (State.CLOSED, Kind.DEPENDENCY)


def test_a_dependency_that_is_well_costs_no_query(mail, django_assert_num_queries):
    with mail.call():
        pass
    with django_assert_num_queries(0), mail.call():
        pass


def test_a_dependency_that_fails_is_not_asked_until_one_call_finds_it_well(mail, fake_clock):
    for _ in range(3):
        fail(mail)
    with pytest.raises(BreakerOpen, match="nobody there"), mail.call():
        pytest.fail("a call went through")
    fake_clock.advance(1)
    fail(mail)  # the probe
    with pytest.raises(BreakerOpen), mail.call():
        pytest.fail("a call went through")
    fake_clock.advance(2)
    with mail.call():
        assert row().state == State.HALF_OPEN
        with pytest.raises(BreakerOpen), mail.call():
            pytest.fail("two probes at once")
    assert row().state == State.CLOSED


def test_an_answer_may_speak_against_a_dependency_too(mail):
    for _ in range(3):
        with mail.call() as call:
            call.failure = "It answered with 503."
    assert (row().state, row().why) == (State.OPEN, "It answered with 503.")


def test_a_success_in_between_counts_for_a_dependency_too(mail):
    for _ in range(3):
        fail(mail)
        fail(mail)
        with mail.call():
            pass
    assert row().state == State.CLOSED


@pytest.mark.parametrize("error", [AddressRefused("not there"), ZeroDivisionError()])
def test_what_is_not_the_fault_of_a_dependency_is_not_counted(mail, error):
    for _ in range(5):
        fail(mail, error)
    assert (row().state, row().failures) == (State.CLOSED, 0)


def test_a_probe_that_says_nothing_is_given_back(mail, fake_clock):
    for _ in range(3):
        fail(mail)
    fake_clock.advance(1)
    fail(mail, ZeroDivisionError())
    with mail.call():
        pass
    assert row().state == State.CLOSED


def test_an_operator_decides_over_dependencies(mail):
    with mail.call():
        pass
    operator = make_operator()
    breakers.hold(row().pk, Forced.OPEN, by=operator, reason="the contract ended")
    with pytest.raises(BreakerOpen, match="the contract ended"), mail.call():
        pytest.fail("a call went through")
    breakers.reset(row().pk, by=operator)
    with mail.call():
        pass


def test_history_goes_with_its_breaker():
    breaker = make(is_open=True)
    breaker.delete()
    assert not CircuitBreakerChange.objects.exists()


def test_the_window_is_measured_from_failure_to_failure(fake_clock):
    breaker = make()
    for _ in range(3):
        breakers.failed(breaker.pk, "slowly")
        fake_clock.advance(599)
    assert read(breaker).opened_at == fake_clock.moment - timedelta(seconds=599)
