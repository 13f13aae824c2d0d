"""Entries that are older than the log is kept go, and what stays can still be checked."""

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from prometheus_client import REGISTRY

from core import audit
from core.audit import checkpoints, retention, seal, sealer, verification
from core.audit.verification import LogDamagedError, verify
from core.models import AuditBeginning, AuditCheckpoint, AuditEntry, MaintenanceRun
from core.ops import maintenance
from core.ops.jobs import audit as jobs
from tests import audit_triggers

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

KEPT_DAYS = 30


@pytest.fixture(autouse=True)
def archive(settings, tmp_path: Path) -> Path:
    """A folder for what is removed, and a log that is kept for thirty days."""
    settings.AUDIT_KEEP_DAYS = KEPT_DAYS
    settings.AUDIT_ARCHIVE = tmp_path / "archive"
    return settings.AUDIT_ARCHIVE


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for module in (seal, verification):
        monkeypatch.setattr(module, "BATCH", 4)


@pytest.fixture
def log() -> None:
    """Ten sealed entries: five that are too old, with checkpoints at the fourth and the fifth, and five others."""
    for number in range(4):
        write(f"old {number}", days=40)
    checkpoints.sign()
    write("old 4", days=31)
    checkpoints.sign()
    for number in range(5):
        write(f"young {number}", days=10)


def write(detail: str, days: float) -> None:
    created_at = timezone.now() - timedelta(days=days)
    AuditEntry(action="thing.done", detail=detail, created_at=created_at).save()
    sealer.seal_waiting()


def details() -> list[str]:
    return list(AuditEntry.objects.filter(action="thing.done").order_by("id").values_list("detail", flat=True))


YOUNG = [f"young {number}" for number in range(5)]


def assert_holds(count: int) -> None:
    verdict = verify()
    assert (verdict.finding, verdict.intact) == (None, count)


def assert_found(kind: str, place: int) -> None:
    finding = verify().finding
    assert finding is not None
    assert (finding.kind, finding.sequence) == (kind, place)


def test_what_is_too_old_goes_and_the_rest_holds(log):
    removal = retention.remove_old()
    assert (removal.first, removal.last) == (1, 5)
    assert details() == YOUNG
    assert_holds(5)
    begun = AuditBeginning.objects.get()
    assert (begun.sequence, begun.count) == (5, 5)
    assert verify().told_of_removal.startswith("Entries 1 to 5, the last written at ")
    assert retention.remove_old() is None
    sealer.seal_waiting()  # the entry that tells of it
    assert_holds(6)


def test_by_default_nothing_goes(log, settings):
    settings.AUDIT_KEEP_DAYS = 0
    assert retention.remove_old() is None
    assert jobs.remove_old_audit_entries() == "The audit log is kept for ever."
    assert AuditEntry.objects.count() == 10


def test_nothing_goes_that_is_not_signed(log):
    AuditCheckpoint.objects.all()._raw_delete("default")
    assert retention.remove_old() is None
    assert AuditEntry.objects.count() == 10


def test_nothing_goes_behind_which_something_is_young():
    """On PostgreSQL an entry may get its place behind one that was written later."""
    write("young", days=1)
    write("old", days=40)
    checkpoints.sign()
    write("newest", days=0)
    assert retention.remove_old() is None


def test_the_newest_entry_stays_however_old_it_is():
    for number in range(3):
        write(f"old {number}", days=40)
        checkpoints.sign()
    retention.remove_old()
    assert details() == ["old 2"]
    sealer.seal_waiting()
    assert list(AuditEntry.objects.order_by("id").values_list("sequence", flat=True)) == [3, 4]
    assert_holds(2)


def test_it_is_told_in_the_log_itself_once(log, archive):
    retention.remove_old()
    entry = AuditEntry.objects.get(action="audit-log.shortened")
    file = archive / "audit-1-5.jsonl"
    assert entry.detail == f"Entries 1 to 5 of the audit log were removed for their age, kept in {file}."


def test_what_goes_is_in_the_archive_with_its_checkpoint(log, archive):
    entries = list(AuditEntry.objects.filter(sequence__lte=5).order_by("id").values("sequence", "seal", "detail"))
    retention.remove_old()
    file = archive / "audit-1-5.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [{name: line[name] for name in entries[0]} for line in lines] == entries
    checkpoint = checkpoints.read((archive / "audit-1-5.checkpoint.json").read_text())
    assert (checkpoint.sequence, checkpoint.seal) == (5, entries[-1]["seal"])
    assert {path.name for path in archive.iterdir()} == {"audit-1-5.jsonl", "audit-1-5.checkpoint.json"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_an_archive_nothing_goes_unless_that_is_wanted(log, settings, tmp_path):
    (tmp_path / "file").write_text("This is no folder.")
    settings.AUDIT_ARCHIVE = tmp_path / "file"
    with pytest.raises(OSError, match="exists"):
        retention.remove_old()
    assert AuditEntry.objects.count() == 10
    settings.AUDIT_ARCHIVE = None
    assert "without an archive" in str(retention.remove_old())
    assert details() == YOUNG


def test_a_log_that_was_tampered_with_is_left_alone(log):
    lift_the_guard_of_contents()
    AuditEntry.objects.filter(sequence=3).update(detail="forged")
    told = REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "damaged"})
    with pytest.raises(LogDamagedError, match="Entry 3 of the chain"):
        retention.remove_old()
    assert REGISTRY.get_sample_value("sutazai_audit_failures_total", {"what": "damaged"}) == told + 1
    assert AuditEntry.objects.count() == 10
    assert not AuditBeginning.objects.exists()


@pytest.mark.parametrize("place", [6, 8, 10])
def test_what_stays_is_guarded_as_before(log, place):
    retention.remove_old()
    lift_the_guard_of_contents()
    AuditEntry.objects.filter(sequence=place).update(detail="forged")
    assert_found("altered", place)


@pytest.mark.parametrize("place", [6, 8])
def test_whoever_removes_more_is_found(log, place):
    retention.remove_old()
    AuditEntry.objects.filter(sequence=place)._raw_delete("default")
    assert_found("removed", place)


def test_whoever_removes_more_and_says_that_it_was_for_its_age_is_found(log):
    retention.remove_old()
    seventh = AuditEntry.objects.get(sequence=7)
    AuditEntry.objects.filter(sequence__lte=7)._raw_delete("default")
    AuditBeginning.objects.update(sequence=7, seal=seventh.seal, count=7)
    assert_found("forged", 1)


def test_whoever_signs_that_with_a_key_of_theirs_is_found(log, settings):
    retention.remove_old()
    seventh = AuditEntry.objects.get(sequence=7)
    AuditEntry.objects.filter(sequence__lte=7)._raw_delete("default")
    ours = settings.AUDIT_KEY, settings.AUDIT_SIGNING_KEY
    settings.AUDIT_KEY = settings.AUDIT_SIGNING_KEY = "made up by whoever can write the database"
    checkpoints.begin_behind(7, seventh.seal, timezone.now())
    settings.AUDIT_KEY, settings.AUDIT_SIGNING_KEY = ours
    assert_found("forged", 1)


def test_whoever_puts_an_older_statement_back_is_found(log, monkeypatch):
    interrupt_after_the_first_batch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        retention.remove_old()
    older = AuditBeginning.objects.values().get()
    monkeypatch.undo()
    retention.remove_old()
    AuditBeginning.objects.update(**older)
    assert_found("removed", 3)


def test_whoever_takes_the_statement_away_is_found(log):
    retention.remove_old()
    AuditBeginning.objects.all().delete()
    assert_found("removed", 1)


def test_whoever_adds_entries_of_old_is_found(log):
    retention.remove_old()
    entry = AuditEntry(action="thing.done", detail="forged", created_at=timezone.now(), sequence=2, seal="0" * 64)
    entry.save()
    assert_found("added", 2)


def test_an_interrupted_removal_leaves_a_log_that_holds_and_is_finished_later(log, monkeypatch):
    interrupt_after_the_first_batch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        retention.remove_old()
    monkeypatch.undo()
    assert details()[0] == "old 2"
    assert_holds(8)
    removal = retention.remove_old()
    assert (removal.first, removal.last) == (3, 5)
    assert details() == YOUNG
    assert_holds(5)


def test_a_check_that_is_overtaken_by_the_removal_finds_nothing(log, monkeypatch):
    look_up, is_first = verification._checkpoints, iter([True])

    def remove_meanwhile(batch):
        if next(is_first, False):
            monkeypatch.setattr(verification, "_checkpoints", look_up)
            retention.remove_old()
        return look_up(batch)

    monkeypatch.setattr(verification, "_checkpoints", remove_meanwhile)
    assert_holds(5)


def test_checkpoints_that_were_kept_still_agree_with_the_log(log, settings):
    older = AuditCheckpoint.objects.get(sequence=4)
    newer = checkpoints.sign()
    assert (newer.sequence, newer.count) == (10, 10)
    retention.remove_old()
    assert checkpoints.compare(older) == checkpoints.compare(newer) == ""
    write("newest", days=0)
    sealer.seal_waiting()
    latest = checkpoints.sign()
    assert latest.count == latest.sequence == 12
    assert checkpoints.compare(latest) == ""
    AuditBeginning.objects.update(count=6)
    assert "forged" in checkpoints.compare(latest)


def test_another_signing_key_makes_no_difference_to_what_was_removed(log, settings):
    retention.remove_old()
    settings.AUDIT_SIGNING_KEY = "the key that takes the place of the old one"
    assert_holds(5)


def test_the_database_lets_go_of_what_is_too_old_alone(log):
    audit_triggers.install()
    try:
        with pytest.raises(IntegrityError, match="only grows"), transaction.atomic():
            AuditEntry.objects.filter(sequence=1)._raw_delete("default")
        retention.remove_old()
        audit.record("thing.done")
        for entry in AuditEntry.objects.all():
            with pytest.raises(IntegrityError, match="only grows"), transaction.atomic():
                AuditEntry.objects.filter(pk=entry.pk)._raw_delete("default")
    finally:
        audit_triggers.lift()


def test_the_job_tells_beforehand_how_much_would_go_and_checks_tell_what_went(log):
    row = maintenance.run("remove_old_audit_entries", trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert row.status == MaintenanceRun.Status.SUCCEEDED, row.error
    assert row.before == {"sealed_entries": 10, "removable_entries": 5}
    assert row.after == {"sealed_entries": 5, "removable_entries": 0}
    assert row.summary.startswith("Entries 1 to 5 of the audit log were removed for their age, kept in ")
    assert jobs.remove_old_audit_entries() == "Nothing that is signed is so old."
    sealer.seal_waiting()
    assert jobs.verify_audit_log().startswith("All 6 sealed entries hold. Entries 1 to 5, the last written at ")


def lift_the_guard_of_contents() -> None:
    with connection.cursor() as cursor:
        for name in ("audit_sealed_entries_stay", "audit_content_stays"):
            cursor.execute(f"DROP TRIGGER {name}{' ON core_auditentry' if connection.vendor == 'postgresql' else ''}")


def interrupt_after_the_first_batch(monkeypatch) -> None:
    remove_until = retention._remove_until

    def interrupted(place):
        if AuditBeginning.objects.exists():
            raise KeyboardInterrupt
        remove_until(place)

    monkeypatch.setattr(retention, "_remove_until", interrupted)
