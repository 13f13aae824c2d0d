"""Restoring, by the command, into a place of its own; and whatever is refused changes nothing there."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from core.ops.backup import databases, making
from core.ops.backup.archive import Archive, Writer
from core.ops.backup.making import Made
from core.ops.data_folder import owned
from tests.core.ops.backup.conftest import PASSPHRASE, Place, changed

both = pytest.mark.both_databases
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's files")


def is_empty(place: Place) -> bool:
    if connection.vendor == "sqlite":
        return not (place.data_dir / "db.sqlite3").exists()
    return place.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@both
def test_everything_is_back_and_works_with_the_secrets_of_then(made: Made, place: Place) -> None:
    done = place.manage("restore", str(made.path))
    assert done.returncode == 0, done.stderr
    assert f"All {made.manifest.total_rows} rows" in done.stdout
    assert "1 sealed entries are intact." in done.stdout
    assert (place.data_dir / "audit" / "audit-1-2.jsonl").read_text() == "{}\n"
    assert place.ask("SELECT username FROM core_user") == [("ada",)]
    told = "SELECT credential, object_name FROM core_auditentry WHERE action = 'backup.restored'"
    assert place.ask(told) == [("command", made.path.name)]
    assert place.manage("audit", "verify").stdout.startswith("1 sealed entries are intact.\n1 entries are not sealed")
    assert PASSPHRASE not in done.stdout + done.stderr

    again = place.manage("restore", str(made.path))
    assert again.returncode == 1
    assert "into an empty place only" in again.stderr
    assert "tables." in again.stderr


@both
def test_what_cannot_be_right_is_refused_and_the_place_stays_empty(made: Made, place: Place, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(made.path.read_bytes()[:-12_000])
    newer = {**made.manifest.migrations, "core": ["9999_future"]}
    refusals = {
        "cut off": [str(cut)],
        "newer version": [str(changed(made, tmp_path / "newer.tar", migrations=newer))],
        "No such file": [str(tmp_path / "nowhere.tar")],
        "is of oracle": [str(changed(made, tmp_path / "oracle.tar", vendor="oracle"))],
    }
    for reason, arguments in refusals.items():
        done = place.manage("restore", *arguments)
        assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
        assert is_empty(place)
    for passphrase in ("", "not the passphrase"):
        done = place.manage("restore", str(made.path), SUTAZAI_BACKUP_PASSPHRASE=passphrase)
        assert (done.returncode, "SUTAZAI_BACKUP_PASSPHRASE" in done.stderr) == (1, True), done.stderr
        assert is_empty(place)


@both
def test_a_dump_that_breaks_off_leaves_an_empty_place(made: Made, place: Place, tmp_path: Path) -> None:
    """Somebody made an archive whose checksums are right, of half a dump."""
    member = databases.ours().member
    with Archive.open(made.path) as archive, (tmp_path / "half.tar").open("wb") as file:
        archive.extract(member, tmp_path / "dump")
        content = (tmp_path / "dump").read_bytes()
        (tmp_path / "dump").write_bytes(content[: len(content) // 2])
        writer = Writer(file)
        writer.add(member, tmp_path / "dump")
        writer.finish(replace(made.manifest, members=dict(writer.members)))
    done = place.manage("restore", str(tmp_path / "half.tar"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert is_empty(place)
    assert not list(place.data_dir.glob(".part-*"))


@both
def test_rows_that_are_missing_afterwards_are_told(made: Made, place: Place, tmp_path: Path, settings: Any) -> None:
    settings.BACKUP_PASSPHRASE = ""
    whole = making.make()
    wrong = changed(whole, tmp_path / "changed.tar", rows={**whole.manifest.rows, "core_user": 9})
    done = place.manage("restore", str(wrong))
    assert done.returncode == 1
    assert "core_user has 1 instead of 9 rows" in done.stderr
    assert "SUTAZAI_AUDIT_KEY" in done.stderr  # its secrets were not in there


@both
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about a server")
def test_a_database_that_is_not_there_is_told_without_its_password(made: Made, place: Place) -> None:
    elsewhere = databases.url_of("nowhere").replace("sutazai@", "sutazai:hunter2hunter2@")
    for command in (["restore", str(made.path)], ["upgrade"]):
        done = place.manage(*command, DATABASE_URL=elsewhere)
        assert (done.returncode, "The database cannot be used" in done.stderr) == (1, True), done.stderr
        assert "hunter2" not in done.stdout + done.stderr


@on_sqlite
def test_secrets_of_the_environment_have_to_be_those_of_then(made: Made, place: Place) -> None:
    done = place.manage("restore", str(made.path), SUTAZAI_AUDIT_KEY="another-value-of-forty-random-characters")
    assert done.returncode == 1
    assert "another SUTAZAI_AUDIT_KEY than the environment gives" in done.stderr
    assert is_empty(place)


@on_sqlite
def test_secrets_that_are_in_place_can_be_kept(made: Made, place: Place) -> None:
    place.manage("check")  # generates some
    before = {path.name: path.read_text() for path in (place.data_dir / "secrets").iterdir()}
    done = place.manage("restore", str(made.path), "--without-secrets", SUTAZAI_BACKUP_PASSPHRASE="")
    assert "The secrets of the backup were left alone." in done.stdout
    assert {path.name: path.read_text() for path in (place.data_dir / "secrets").iterdir()} == before
    assert "Is SUTAZAI_AUDIT_KEY the one of the old installation?" in done.stderr


@on_sqlite
def test_the_log_of_another_database_is_not_mixed_with_it(made: Made, place: Place) -> None:
    place.data_dir.mkdir()
    (place.data_dir / "db.sqlite3-wal").write_bytes(b"of another database")
    done = place.manage("restore", str(made.path))
    assert (done.returncode, "db.sqlite3-wal" in done.stderr) == (1, True)
    assert is_empty(place)


@on_sqlite
def test_a_file_that_is_there_already_must_be_the_same(made: Made, place: Place) -> None:
    kept = place.data_dir / "audit" / "audit-1-2.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("something else")
    done = place.manage("restore", str(made.path))
    assert (done.returncode, "with another content" in done.stderr) == (1, True)
    assert kept.read_text() == "something else"
    assert is_empty(place)
    kept.write_text("{}\n")
    assert place.manage("restore", str(made.path)).returncode == 0


@on_sqlite
def test_it_waits_for_nobody_who_runs_there(made: Made, place: Place, settings: Any) -> None:
    settings.DATA_DIR = place.data_dir
    with owned(""):
        done = place.manage("restore", str(made.path))
    assert (done.returncode, done.stderr) == (
        1,
        f"SutazAI runs on {place.data_dir} already. Stop it before you restore.\n",
    )


@on_sqlite
def test_a_file_without_tables_is_an_empty_place(made: Made, place: Place) -> None:
    place.data_dir.mkdir()
    with sqlite3.connect(place.data_dir / "db.sqlite3") as file:
        file.execute("PRAGMA journal_mode=WAL")
    file.close()
    assert place.manage("restore", str(made.path)).returncode == 0
    shutil.rmtree(place.data_dir)
