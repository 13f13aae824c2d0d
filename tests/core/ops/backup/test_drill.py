"""A drill finds what would be missed too late."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from core.models import AuditEntry
from core.ops.backup import drill, folders, inspection, making
from core.ops.backup.errors import UnableError
from core.ops.backup.making import Made
from tests.core.ops.backup.conftest import PASSPHRASE, changed

pytestmark = pytest.mark.both_databases


def leftovers() -> list[str]:
    if connection.vendor == "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE '%%_aside_%%'")
        return [name for (name,) in cursor.fetchall()]


def test_a_good_backup_passes(made: Made, folder: Path) -> None:
    report = drill.run(made.path)
    assert report.wrong == []
    assert report.has_passed
    assert f"All {made.manifest.total_rows} rows of {len(made.manifest.rows)} tables are there." in report.found
    assert "Its secrets open; they are those in use." in report.found
    assert report.found[-1] == "1 sealed entries are intact."
    assert report.seconds > 0
    assert sorted(path.name for path in folder.iterdir()) == [".lock", made.path.name]
    assert leftovers() == []


def test_rows_that_are_missing_are_named(made: Made, tmp_path: Path) -> None:
    rows = {**made.manifest.rows, "core_user": 7, "core_gone": 2}
    report = drill.run(changed(made, tmp_path / "changed.tar", rows=rows))
    assert report.wrong == ["core_gone has no instead of 2 rows", "core_user has 1 instead of 7 rows"]
    assert leftovers() == []


def test_an_audit_log_that_was_changed_before_is_found(made: Made) -> None:
    AuditEntry.objects.filter(action="thing.done")._raw_delete("default")
    AuditEntry.objects.create(action="thing.forged", created_at=made.manifest.created_at, sequence=1, seal="f" * 64)
    report = drill.run(making.make().path)
    assert len(report.wrong) == 1
    assert "Entry 1 of the chain" in report.wrong[0]


def test_a_dry_run_only_says_what_would_be_tried(tmp_path: Path) -> None:
    archive, said = tmp_path / "elsewhere.tar", io.StringIO()
    call_command("backup", "--dry-run", "drill", str(archive), stdout=said)
    assert said.getvalue() == f"{archive} would be restored aside, and looked through.\n"


def test_a_command_that_does_not_end_is_told(made: Made, monkeypatch: Any) -> None:
    monkeypatch.setattr(inspection, "MAX_SECONDS", 0.01)
    assert drill.run(made.path).wrong == [
        "A command on the restored database failed: manage.py audit took longer than 0.01 s"
    ]


def test_a_changed_byte_is_found(made: Made) -> None:
    content = bytearray(made.path.read_bytes())
    content[2000] ^= 1
    made.path.write_bytes(content)
    assert "checksum" in drill.run(made.path).wrong[0]


@pytest.mark.parametrize("passphrase", ["", "not the passphrase"])
def test_secrets_that_nobody_can_open_are_no_good(made: Made, settings: Any, passphrase: str) -> None:
    settings.BACKUP_PASSPHRASE = passphrase
    assert "SUTAZAI_BACKUP_PASSPHRASE" in drill.run(made.path).wrong[0]


def test_a_backup_without_secrets_says_so(made: Made, settings: Any) -> None:
    settings.BACKUP_PASSPHRASE = ""
    path = making.make().path
    settings.BACKUP_PASSPHRASE = PASSPHRASE
    report = drill.run(path)
    assert report.wrong == []
    assert "It holds no secrets: a restoration needs them from elsewhere." in report.found


def test_a_backup_of_a_newer_program_is_refused(made: Made, tmp_path: Path) -> None:
    newer = {**made.manifest.migrations, "core": [*made.manifest.migrations["core"], "9999_future"]}
    report = drill.run(changed(made, tmp_path / "changed.tar", migrations=newer))
    assert "core.9999_future" in report.wrong[0]


def test_a_backup_of_another_kind_of_database_is_refused(made: Made, tmp_path: Path) -> None:
    report = drill.run(changed(made, tmp_path / "changed.tar", vendor="oracle"))
    assert report.wrong == [f"The backup is of oracle, and DATABASE_URL names {connection.vendor}."]


def test_who_cannot_try_it_says_nothing_about_it(made: Made, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(folders, "WAIT_SECONDS", 0.1)
    with folders.working_in(folder), pytest.raises(UnableError):
        drill.run(made.path)
    if connection.vendor == "postgresql":
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(UnableError, match="pg_restore is not installed"):
            drill.run(made.path)


def test_what_a_killed_drill_left_is_taken_away(made: Made) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("A drill on SQLite leaves files, which test_making is about.")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.settings_dict['NAME']}_aside_0badcafe")
    assert drill.run(made.path).has_passed
    assert leftovers() == []
