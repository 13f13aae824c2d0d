"""Giving entries their places in the chain."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from core import audit
from core.audit import seal, sealer, verification
from core.models import AuditEntry, Lease

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches so small that a few entries make several."""
    monkeypatch.setattr(sealer, "BATCH", 3)
    monkeypatch.setattr(seal, "BATCH", 3)


def write(count: int) -> None:
    for number in range(count):
        audit.record("thing.done", detail=str(number))


def places() -> list[int | None]:
    return list(AuditEntry.objects.order_by("id").values_list("sequence", flat=True))


def test_entries_are_sealed_in_the_order_of_their_ids():
    write(7)
    assert sealer.seal_waiting() == 7
    assert places() == [1, 2, 3, 4, 5, 6, 7]
    write(2)
    assert sealer.seal_waiting() == 2
    assert places() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert verification.verify().intact == 9


def test_where_nothing_waits_nothing_is_written(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert sealer.seal_waiting() == 0
    assert not Lease.objects.exists()


def test_an_entry_that_appears_late_with_a_smaller_id_is_sealed_too():
    """On PostgreSQL ids are drawn before the commit."""
    for key in (10, 5):
        AuditEntry(pk=key, action="thing.done", created_at=timezone.now()).save(force_insert=True)
        sealer.seal_waiting()
    assert places() == [2, 1]
    assert verification.verify().finding is None


def test_whoever_has_not_the_lease_seals_nothing():
    write(1)
    Lease.objects.create(
        name=sealer.DUTY, holder="elsewhere:0:0/1/1", held_until=timezone.now() + timedelta(minutes=1)
    )
    assert sealer.seal_waiting() == 0
    assert places() == [None]


@pytest.mark.django_db(transaction=True)
def test_sealers_that_all_believe_to_be_the_only_one_make_one_chain():
    """As when a process slept through the end of its lease."""
    write(60)
    together = threading.Barrier(4)

    def run(_: int) -> None:
        together.wait(20)
        try:
            while AuditEntry.objects.unsealed().exists():
                try:
                    sealer.seal_batch()
                except IntegrityError:  # another was first: nothing of this batch stays
                    continue
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))

    verdict = verification.verify()
    assert (verdict.intact, verdict.finding, verdict.unsealed) == (60, None, 0)


@pytest.mark.django_db(transaction=True)
def test_a_round_seals_and_writes_what_was_counted_in_memory(monkeypatch):
    monkeypatch.setattr(sealer, "ROUND_SECONDS", 0)
    write(4)
    audit.denied(audit.Subject(name="/path"))
    audit.denied(audit.Subject(name="/path"))

    sealer._round()

    assert AuditEntry.objects.sealed().count() == 4
    assert AuditEntry.objects.get(object_name="/path").count == 2


def test_what_is_in_memory_alone_is_written_before_the_process_ends():
    audit.denied(audit.Subject(name="/path"))
    sealer.stop()
    assert AuditEntry.objects.get().object_name == "/path"
