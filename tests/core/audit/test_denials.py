"""Refusals: equal ones of a minute are one entry, whoever counts and however many at once."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from prometheus_client import REGISTRY

from core import audit
from core.audit import context, denials, sealer
from core.models import AuditEntry
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

MOMENT = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)
PATH = audit.Subject(name="/api/v1/agents/")


def counts() -> dict[str, int]:
    denials.flush()
    return dict(AuditEntry.objects.order_by("id").values_list("object_name", "count"))


def test_equal_denials_of_a_minute_are_one_entry():
    with time_machine.travel(MOMENT, tick=False), audit.acting(address="192.0.2.7"):
        for _ in range(3):
            audit.denied(PATH, detail="GET answered with 403")
        denials.flush()
        audit.denied(PATH)
        denials.flush()

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.outcome, entry.count) == ("access.denied", "refused", 4)
    assert (entry.address, entry.object_name, entry.detail) == ("192.0.2.7", PATH.name, "GET answered with 403")


@pytest.mark.parametrize(
    "other",
    [
        {"actor": True},
        {"address": "192.0.2.8"},
        {"action": "sign-in.failed"},
        {"subject": audit.Subject(name="/api/v1/nodes/")},
        {"later": True},
    ],
)
def test_denials_that_differ_are_two_entries(other):
    person = make_user() if other.get("actor") else None
    with time_machine.travel(MOMENT, tick=False) as clock, audit.acting(address="192.0.2.7"):
        audit.denied(PATH)
        if other.get("later"):
            clock.shift(timedelta(minutes=1))
        with audit.acting(actor=person, address=other.get("address", "")):
            audit.denied(other.get("subject", PATH), action=other.get("action", denials.ACCESS))
        denials.flush()
    assert list(AuditEntry.objects.values_list("count", flat=True)) == [1, 1]


@pytest.mark.django_db(transaction=True)
def test_the_first_is_written_at_once_and_its_repeats_cost_no_write(django_assert_num_queries):
    with time_machine.travel(MOMENT, tick=False):
        audit.denied(PATH)
        assert AuditEntry.objects.get().count == 1
        with django_assert_num_queries(0):
            for _ in range(100):
                audit.denied(PATH)
        assert counts() == {PATH.name: 101}


@pytest.mark.django_db(transaction=True)
def test_a_denial_stands_although_the_callers_transaction_is_taken_back():
    class Regret(Exception):
        pass

    def refuse() -> None:
        with transaction.atomic():
            audit.denied(PATH)
            raise Regret

    with pytest.raises(Regret):
        refuse()
    assert counts() == {PATH.name: 1}


def test_somebody_who_walks_through_addresses_fills_no_log(monkeypatch):
    monkeypatch.setattr(denials, "MAX_ROWS", 3)
    with time_machine.travel(MOMENT, tick=False):
        for number in range(10):
            audit.denied(audit.Subject(name=f"/{number}"))
        audit.denied(audit.Subject(name="/1"))
        assert counts() == {"/0": 1, "/1": 2, "/2": 1, "(many more)": 7}


def test_a_denial_never_fails_and_is_written_once_the_database_is_back(monkeypatch):
    def away(*_: object) -> None:
        raise OperationalError("away")

    with time_machine.travel(MOMENT, tick=False):
        with monkeypatch.context() as patch:
            patch.setattr(denials, "write", away)
            told = REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "written-later"})
            audit.denied(PATH)
            denials.flush()
            later = REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "written-later"})
        assert later > told
        assert not AuditEntry.objects.exists()
        assert counts() == {PATH.name: 1}


def test_whoever_cannot_be_found_out_is_no_reason_to_fail(caplog):
    def unknown() -> context.Origin:
        raise OperationalError("away")

    with context.entered(unknown):
        audit.denied(PATH)
    assert "could not be written down" in caplog.text


def test_an_entry_that_is_still_counted_on_is_not_sealed():
    with time_machine.travel(MOMENT, tick=False) as clock:
        audit.denied(PATH)
        denials.flush()
        audit.record("thing.done")
        assert sealer.seal_waiting() == 1
        clock.shift(timedelta(seconds=66))
        assert sealer.seal_waiting() == 1


def test_who_comes_after_the_seal_gets_an_entry_of_its_own():
    with time_machine.travel(MOMENT, tick=False) as clock:
        audit.denied(PATH)
        denials.flush()
        audit.denied(PATH)
        clock.shift(timedelta(seconds=66))
        sealer.seal_waiting()
        denials.flush()
    counted, late = AuditEntry.objects.order_by("id")
    assert (counted.count, late.count, late.repeat_id) == (1, 1, None)


def in_threads(count: int, work: Callable[[], object]) -> None:
    def run(_: int) -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


@pytest.mark.django_db(transaction=True)
def test_many_processes_count_in_one_entry():
    """Each thread stands for a process: none knows what the others hold in memory."""
    fields = {"action": "access.denied", "created_at": MOMENT}
    repeat_id = uuid.uuid4()

    in_threads(8, lambda: [denials.write(repeat_id, fields, 2) for _ in range(3)])

    assert AuditEntry.objects.get().count == 48


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_while_the_sealer_takes_the_entry_away():
    fields = {"action": "access.denied", "created_at": MOMENT}
    repeat_id = uuid.uuid4()

    def refuse_and_seal() -> None:
        for _ in range(10):
            denials.write(repeat_id, fields, 1)
            sealer.seal_batch()

    with time_machine.travel(MOMENT + timedelta(hours=1)):
        in_threads(4, refuse_and_seal)

    assert sum(AuditEntry.objects.values_list("count", flat=True)) == 40
