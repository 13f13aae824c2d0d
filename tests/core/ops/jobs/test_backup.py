"""The jobs that make backups and try them."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from core.models import Backup, MaintenanceRun, Notification, WebhookDelivery
from core.ops import maintenance
from core.ops.backup import making
from core.ops.jobs.backup import BACK_UP, DRILL
from tests.factories import make_administrator, make_operator, make_user, make_webhook

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.BACKUP_DIR = tmp_path / "backups"
    settings.BACKUP_PASSPHRASE = "five words are quite enough"
    return settings.BACKUP_DIR


def run(job: str) -> MaintenanceRun:
    row = maintenance.run(job, trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert row is not None
    return row


def test_a_backup_is_made_and_tried() -> None:
    row = run(BACK_UP)
    assert row.status == "succeeded", row.error
    assert (row.before["backups"], row.after["backups"]) == (0, 1)
    assert row.after["backup_bytes"] == Backup.objects.get().size_bytes
    assert "rows." in row.summary
    assert "holds no secrets" not in row.summary

    row = run(DRILL)
    assert row.status == "succeeded", row.error
    assert "was restored and holds" in row.summary
    assert Backup.objects.get().verdict == "passed"
    assert not Notification.objects.exists()


def test_it_says_that_it_holds_no_secrets_and_how_many_old_ones_went(settings: Any) -> None:
    settings.BACKUP_PASSPHRASE = ""
    settings.BACKUP_KEEP = 1
    run(BACK_UP)
    (first,) = making.archives()
    Backup.objects.all().delete()  # as in a database that was restored
    assert maintenance.preview(BACK_UP).endswith(f"Then it would remove {first.name}.")
    assert run(BACK_UP).summary.endswith(
        "Removed 1 old ones. It holds no secrets: SUTAZAI_BACKUP_PASSPHRASE is not set."
    )
    assert len(making.archives()) == 1


def test_operators_hear_of_a_failure_once_a_day(folder: Path) -> None:
    told = [make_operator(username="op"), make_administrator(username="admin")]
    make_user()
    make_operator(is_active=False)
    make_webhook()
    folder.write_text("no folder")
    for _ in range(2):
        row = run(BACK_UP)
        assert row.status == "failed"
        assert "cannot be written to" in row.error
    assert {(item.person, item.event, item.count) for item in Notification.objects.all()} == {
        (person, "backup-failed", 2) for person in told
    }
    assert {item.link for item in Notification.objects.all()} == {"/admin/core/backup/"}
    by_webhook = WebhookDelivery.objects.get()
    assert (by_webhook.event, by_webhook.title, by_webhook.link) == (
        "backup-failed",
        "Backup failed",
        "/admin/core/backup/",
    )
    assert "cannot be written to" in by_webhook.text


def test_a_drill_that_fails_fails_the_run_and_the_backup(folder: Path) -> None:
    make_operator()
    run(BACK_UP)
    (archive,) = making.archives()
    content = bytearray(archive.read_bytes())
    content[3000] ^= 1
    archive.write_bytes(content)
    row = run(DRILL)
    assert row.status == "failed"
    assert "checksum" in row.error
    assert Backup.objects.get().verdict == "failed"
    assert Notification.objects.get().title == "Backup failed its drill"


def test_without_a_backup_there_is_nothing_to_try() -> None:
    assert "There is no backup" in run(DRILL).error


def call(*arguments: str) -> str:
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


def test_the_command_makes_tries_and_lists(folder: Path) -> None:
    assert "It would write a backup with the secrets" in call("backup", "--dry-run")
    assert "There is no backup" in call("maintain", "--dry-run", "--job", DRILL)
    assert not MaintenanceRun.objects.exists()
    assert not folder.exists()

    (name,) = (word.rstrip(":") for word in call("backup").split() if word.startswith("sutazai-"))
    assert "never tried" in call("backup", "list")
    assert "was restored and holds" in call("backup", "drill")
    assert f"{name}  " in call("backup", "list")
    assert "with secrets  Passed" in call("backup", "list")
    assert "It holds. Restoring and checking it took" in call("backup", "drill", str(folder / name))
    assert list(MaintenanceRun.objects.values_list("trigger", flat=True)) == ["command", "command"]


def test_the_command_fails_where_something_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no backup"):
        call("backup", "drill")
    (tmp_path / "half.tar").write_bytes(b"half of one")
    with pytest.raises(CommandError, match="cut off"):
        call("backup", "drill", str(tmp_path / "half.tar"))
