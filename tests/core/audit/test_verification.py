"""Somebody who can write the database, and lift its triggers, changes the log: the first wrong entry is named."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from prometheus_client import REGISTRY

from core import audit
from core.audit import checkpoints, seal, sealer, verification
from core.audit.verification import verify
from core.models import AuditCheckpoint, AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

COUNT = 10


@pytest.fixture(autouse=True)
def chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten sealed entries, read four at a time, and nothing that protects them."""
    monkeypatch.setattr(seal, "BATCH", 4)
    monkeypatch.setattr(verification, "BATCH", 4)
    for number in range(COUNT):
        audit.record("thing.done", detail=f"number {number}", changes={"b": [1, 2.5], "a": ["ü", None]})
    sealer.seal_waiting()
    with connection.cursor() as cursor:
        for name in ("audit_sealed_entries_stay", "audit_content_stays"):
            cursor.execute(f"DROP TRIGGER {name}{' ON core_auditentry' if connection.vendor == 'postgresql' else ''}")


def at(place: int) -> AuditEntry:
    return AuditEntry.objects.get(sequence=place)


def remove(*places: int) -> None:
    AuditEntry.objects.filter(sequence__in=places)._raw_delete("default")


def swap(first: int, second: int, columns: list[str]) -> None:
    """Exchange columns of two entries, without two ever having the same place."""
    one, other = at(first), at(second)
    wanted = [(one.pk, {name: getattr(other, name) for name in columns})]
    wanted += [(other.pk, {name: getattr(one, name) for name in columns})]
    if "sequence" in columns:
        AuditEntry.objects.filter(pk__in=[one.pk, other.pk]).update(sequence=F("sequence") + 1000)
    for key, values in wanted:
        AuditEntry.objects.filter(pk=key).update(**values)


def assert_found(kind: str, place: int) -> None:
    told = REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "damaged"})
    verdict = verify()
    assert verdict.finding is not None
    assert (verdict.finding.kind, verdict.finding.sequence) == (kind, place)
    assert REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "damaged"}) == told + 1
    assert verdict.intact == place - 1


def test_what_was_left_alone_holds():
    verdict = verify()
    assert (verdict.intact, verdict.finding, verdict.unsealed) == (COUNT, None, 0)


ALTERATIONS = {
    "detail": "number 99",
    "actor_name": "somebody else",
    "created_at": F("created_at") + timedelta(seconds=1),
    "changes": {"b": [1, 2.5], "a": ["u", None]},
    "outcome": "refused",
    "count": 2,
    "seal": "0" * 64,
    "id": 4711,
}


@pytest.mark.parametrize("column", ALTERATIONS)
@pytest.mark.parametrize("place", [1, 5, COUNT])
def test_an_altered_entry_is_named(place, column):
    AuditEntry.objects.filter(sequence=place).update(**{column: ALTERATIONS[column]})
    assert_found("altered", place)


@pytest.mark.parametrize("column", [name for name in seal.CONTENT if name not in ALTERATIONS])
def test_so_is_each_other_column(column):
    field = AuditEntry._meta.get_field(column)
    value = "00000000-0000-0000-0000-000000000001" if field.get_internal_type() == "UUIDField" else "x"
    AuditEntry.objects.filter(sequence=5).update(**{column: value})
    assert_found("altered", 5)


def test_an_alteration_with_a_seal_of_a_wrong_key_is_named(settings):
    entry = at(5)
    entry.detail = "forged"
    right, settings.AUDIT_KEY = settings.AUDIT_KEY, "a key that somebody else made up for this"
    content = seal.canonical(tuple(getattr(entry, name) for name in seal.CONTENT))
    forged = seal.seal_of(at(4).seal, 5, content)
    settings.AUDIT_KEY = right
    AuditEntry.objects.filter(pk=entry.pk).update(detail="forged", seal=forged)
    assert_found("altered", 5)


@pytest.mark.parametrize("places", [(1,), (5,), (4, 5, 6)])
def test_removed_entries_are_named(places):
    remove(*places)
    assert_found("removed", places[0])


def test_a_removed_entry_is_noticed_although_the_others_close_the_gap():
    remove(5)
    for place in range(6, COUNT + 1):
        AuditEntry.objects.filter(sequence=place).update(sequence=place - 1)
    assert_found("altered", 5)


@pytest.mark.parametrize("columns", [["sequence"], ["sequence", "seal"], ["detail"]])
@pytest.mark.parametrize("places", [(2, 3), (1, 9)])
def test_entries_that_changed_places_are_named(places, columns):
    swap(*places, columns)
    kind = "reordered" if "sequence" in columns else "altered"
    assert_found(kind, places[0])


def test_an_end_that_was_cut_off_is_noticed_by_a_checkpoint():
    checkpoints.sign()
    remove(9, 10)
    assert_found("truncated", 9)


def test_an_end_that_was_cut_off_and_grew_again_is_noticed_by_a_checkpoint():
    checkpoints.sign()
    remove(9, 10)
    for _ in range(4):
        audit.record("harmless.thing")
    sealer.seal_waiting()
    verdict = verify()
    assert verdict.finding is not None
    assert (verdict.finding.kind, verdict.finding.sequence) == ("rewritten", 10)


def test_a_log_written_anew_with_the_right_key_is_noticed_by_a_checkpoint():
    checkpoints.sign()
    AuditEntry.objects.update(sequence=None, seal="")
    AuditEntry.objects.filter(detail="number 3").update(detail="number 4")
    sealer.seal_waiting()
    verdict = verify()
    assert verdict.finding is not None
    assert (verdict.finding.kind, verdict.finding.sequence) == ("rewritten", COUNT)


def test_an_altered_checkpoint_is_noticed():
    checkpoints.sign()
    AuditCheckpoint.objects.update(count=COUNT + 1)
    verdict = verify()
    assert verdict.finding is not None
    assert verdict.finding.kind == "rewritten"


def test_what_is_not_sealed_yet_is_counted_with_its_age():
    entry = audit.record("thing.done")
    verdict = verify()
    assert (verdict.unsealed, verdict.oldest_unsealed_at) == (1, entry.created_at)


def test_a_long_chain_is_read_in_batches(django_assert_num_queries):
    # The beginning, 3 batches and the empty one, their checkpoints, the newest, the tail's two.
    with django_assert_num_queries(11):
        verify()


def test_an_empty_log_holds():
    remove(*range(1, COUNT + 1))
    assert verify().finding is None
