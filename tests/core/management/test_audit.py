import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.core.management import CommandError, call_command

from core import audit
from core.audit import sealer
from core.models import AuditCheckpoint, AuditEntry
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def chain() -> None:
    for number in range(3):
        audit.record("thing.done", detail=str(number))
    sealer.seal_waiting()


def run(*arguments: object) -> str:
    out = io.StringIO()
    call_command("audit", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_it_tells_that_all_is_well():
    assert run("verify") == "3 sealed entries are intact.\n"


def test_it_counts_what_is_not_sealed():
    audit.record("thing.done")
    assert "1 entries are not sealed yet, the oldest for 0 s." in run("verify")


def test_it_fails_and_names_the_first_wrong_entry():
    AuditEntry.objects.filter(sequence=2)._raw_delete("default")
    with pytest.raises(CommandError, match="Entry 2 of the chain: removed") as caught:
        run("verify")
    assert caught.value.returncode == 1


def test_the_export_has_a_line_of_json_for_each_entry_and_is_told():
    *lines, end = (json.loads(line) for line in run("export").splitlines())
    assert end == {"exported": 4}
    assert [line["detail"] for line in lines[:3]] == ["0", "1", "2"]
    assert [line["sequence"] for line in lines] == [1, 2, 3, None]
    assert lines[3]["action"] == "audit-log.exported"
    assert lines[3]["credential"] == "command"


def test_the_export_begins_and_ends_where_it_should():
    for day in (1, 2, 3):
        AuditEntry(action="thing.done", detail=f"day {day}", created_at=datetime(2020, 1, day, tzinfo=UTC)).save()
    lines = run("export", "--since", "2020-01-02", "--until", "2020-01-03T00:00:00+00:00").splitlines()
    entry, end = (json.loads(line) for line in lines)
    assert (entry["detail"], end) == ("day 2", {"exported": 1})
    assert run("export", "--until", "2020-01-01") == '{"exported": 0}\n'


@pytest.mark.parametrize("text", ["yesterday", ""])
def test_a_moment_that_is_none_is_refused(text):
    with pytest.raises(CommandError, match="no moment"):
        run("export", "--since", text)


def test_a_checkpoint_goes_to_a_file_and_is_checked_by_it(tmp_path: Path):
    file, key = tmp_path / "checkpoint.json", tmp_path / "audit.pem"
    assert "Signed entry 3" in run("checkpoint", "--output", file)
    key.write_text(run("public-key"))

    for arguments in ((), ("--public-key", key)):
        told = run("check-checkpoint", file, *arguments)
        assert "genuine" in told
        assert "all 3 entries" in told


def test_a_checkpoint_goes_to_standard_output_otherwise():
    assert json.loads(run("checkpoint"))["sequence"] == 3


def test_a_log_that_was_cut_off_does_not_agree_with_a_checkpoint_that_was_kept(tmp_path: Path):
    (tmp_path / "file").write_text(run("checkpoint"))
    AuditEntry.objects.filter(sequence=3)._raw_delete("default")
    AuditCheckpoint.objects.all()._raw_delete("default")
    assert "2 sealed entries are intact" in run("verify")
    with pytest.raises(CommandError, match="2 of the 3"):
        run("check-checkpoint", tmp_path / "file")


def test_on_another_installation_the_signature_is_checked_alone(tmp_path: Path, settings):
    (tmp_path / "file").write_text(run("checkpoint"))
    (tmp_path / "key").write_text(run("public-key"))
    settings.AUDIT_SIGNING_KEY = "the key of the other installation, not ours"
    AuditEntry.objects.all()._raw_delete("default")

    told = run("check-checkpoint", tmp_path / "file", "--public-key", tmp_path / "key", "--signature-only")

    assert "genuine" in told
    with pytest.raises(CommandError, match="signature"):
        run("check-checkpoint", tmp_path / "file", "--signature-only")


def test_what_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(CommandError, match="No such file"):
        run("check-checkpoint", tmp_path / "nothing")
    (tmp_path / "file").write_text(run("checkpoint"))
    (tmp_path / "key").write_text("no key")
    with pytest.raises(CommandError, match="PEM"):
        run("check-checkpoint", tmp_path / "file", "--public-key", tmp_path / "key")


def test_what_was_removed_for_its_age_is_told_and_a_checkpoint_from_before_is_no_contradiction(tmp_path, settings):
    (tmp_path / "before").write_text(run("checkpoint"))
    audit.record("thing.done")
    sealer.seal_waiting()
    settings.AUDIT_KEEP_DAYS, settings.AUDIT_ARCHIVE = 1, tmp_path
    with time_machine.travel(datetime.now(tz=UTC) + timedelta(days=2), tick=False):
        call_command("maintain", job=["remove_old_audit_entries"], stdout=io.StringIO())
    sealer.seal_waiting()

    told = run("verify")
    assert told.startswith("3 sealed entries are intact.\nEntries 1 to 3, the last written at ")
    assert "were removed for their age" in run("check-checkpoint", tmp_path / "before")
    archived = tmp_path / "audit-1-3.checkpoint.json"
    assert "genuine" in run("check-checkpoint", archived, "--signature-only")


def test_an_empty_chain_is_not_signed():
    AuditEntry.objects.all()._raw_delete("default")
    with pytest.raises(CommandError, match="nothing to sign"):
        run("checkpoint")


def test_other_commands_tell_what_they_changed():
    make_user(username="robot")
    call_command("create_api_key", user="robot", stdout=io.StringIO())
    call_command("maintain", job=["delete_idempotency_records"], stdout=io.StringIO())
    told = AuditEntry.objects.filter(credential="command").order_by("id").values_list("action", flat=True)
    assert list(told) == ["api-key.issued", "maintenance-run.started"]
