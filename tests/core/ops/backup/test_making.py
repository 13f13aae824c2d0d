"""One whole archive or none, whatever happens meanwhile."""

import gzip
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from core.models import Device, Lease, TokenFamily
from core.ops import clock
from core.ops.backup import databases, drill, folders, making, sealed_secrets
from core.ops.backup.archive import Archive
from core.ops.backup.errors import BusyError, UnableError
from core.ops.backup.making import Made
from tests.core.ops.backup.conftest import ROOT
from tests.factories import make_user
from tests.program import migrated

both = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's own programs")


@pytest.mark.both_databases
def test_it_holds_the_database_the_files_and_the_secrets(made: Made, folder: Path) -> None:
    assert making.archives() == [made.path]
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with Archive.open(made.path) as archive:
        archive.check()
        names = list(archive.manifest.members)
    assert names[1:] == ["files/audit/audit-1-2.jsonl", sealed_secrets.MEMBER]  # no link
    assert made.manifest.rows["core_user"] == 1
    assert "0015_backups" in made.manifest.migrations["core"]
    assert (made.manifest.vendor, made.size_bytes) == (connection.vendor, made.path.stat().st_size)


@pytest.mark.django_db(transaction=True)
def test_no_secret_stands_in_it_and_without_a_passphrase_there_are_none(made: Made, settings: Any) -> None:
    text = made.path.read_bytes()
    assert not [name for name, value in sealed_secrets.present().items() if value.encode() in text]
    settings.BACKUP_PASSPHRASE = ""
    assert sealed_secrets.MEMBER not in making.make().manifest.members


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_no_sign_in_can_be_gone_on_with_from_it(folder: Path, tmp_path: Path) -> None:
    person = make_user()
    browser = Client()
    browser.force_login(person)
    session_key = browser.session.session_key
    assert session_key
    assert Device.objects.filter(session_key=session_key).exists()
    now = timezone.now()
    TokenFamily.objects.create(user=person, created_at=now, used_at=now, expires_at=now)

    made = making.make()

    assert [made.manifest.rows[table] for table in databases.LEFT_OUT] == [0, 0, 0]
    assert drill.run(made.path).wrong == []
    member, unpacked = databases.ours().member, tmp_path / "unpacked"
    with Archive.open(made.path) as archive:
        archive.extract(member, unpacked)
    assert session_key.encode() not in readable(unpacked)
    assert person.username.encode() in readable(unpacked)
    assert Session.objects.filter(session_key=session_key).exists()  # here it goes on


def readable(dump: Path) -> bytes:
    """Everything that stands in a dump."""
    if connection.vendor == "sqlite":
        return gzip.decompress(dump.read_bytes())
    return subprocess.run(["pg_restore", "--file=-", str(dump)], capture_output=True, check=True).stdout


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_others_write_meanwhile_and_the_counts_are_those_of_the_copy(made: Made) -> None:
    stop, wrote = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            Lease.objects.create(name=f"writer:{number}", holder="", held_until=clock.now())
            number += 1
            wrote.set()
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert wrote.wait(20)
        report = drill.run(making.make().path)
    finally:
        stop.set()
        writer.join()
    assert report.wrong == []


def alone(script: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with a database of its own."""
    data = folder.parent / "data"
    data.mkdir()
    shutil.copy(migrated(), data)
    return subprocess.run(
        [*before, sys.executable, "-c", f"import django; django.setup()\n{script}"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name == "PATH"},
            "DJANGO_SETTINGS_MODULE": "sutazai.settings",
            "SUTAZAI_DATA_DIR": str(data),
            "SUTAZAI_BACKUP_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kilobytes", [4, 60])
def test_a_full_disk_leaves_nothing(folder: Path, leaves_nothing: Callable[[], None], kilobytes: int) -> None:
    """Files that may not grow are as good as a disk that is full; no file of the database can be written."""
    script = """
from core.ops.backup import making
from core.ops.backup.errors import BackupError
try:
    making.make()
except BackupError as error:
    print(error)
"""
    done = alone(script, folder, "prlimit", f"--fsize={kilobytes * 1024}")
    assert done.returncode == 0, done.stderr
    assert "cannot be" in done.stdout
    leaves_nothing()


def test_a_disk_that_is_full_at_the_end_leaves_nothing(folder: Path, leaves_nothing: Callable[[], None]) -> None:
    script = """
import resource
from core.ops.backup import making
from core.ops.backup.errors import BackupError
add = making.Writer.add
def full(self, name, path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    add(self, name, path)
making.Writer.add = full
try:
    making.make()
except BackupError as error:
    print(error)
"""
    done = alone(script, folder)
    assert "cannot be written to" in done.stdout, done.stderr
    leaves_nothing()


@pytest.mark.django_db(transaction=True)
def test_who_is_killed_at_the_last_moment_leaves_no_archive(folder: Path) -> None:
    script = """
import os, signal
from core.ops.backup import making
making.put_in_place = lambda part, target: os.kill(os.getpid(), signal.SIGKILL)
making.make()
"""
    assert alone(script, folder).returncode == -9
    assert making.archives() == []
    (left,) = folder.glob(f"{folders.PART}*")
    assert list(left.glob("*.tar"))
    making.make()
    assert not left.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_take_turns(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(folders, "WAIT_SECONDS", 0.3)
    with folders.working_in(folder), pytest.raises(BusyError, match="Another backup"):
        making.make()
    monkeypatch.setattr(folders, "WAIT_SECONDS", 60)
    threads = [threading.Thread(target=lambda: (making.make(), connection.close())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(making.archives()) == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@on_postgresql
def test_the_password_is_in_no_list_of_processes(tmp_path: Path, monkeypatch: Any) -> None:
    for program in ("pg_dump", "pg_restore"):
        script = (
            f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nprintf "%s\\n" "$PGPASSWORD" >> {tmp_path}/passwords\n'
        )
        (tmp_path / program).write_text(f'{script}exec {shutil.which(program)} "$@"\n')
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "a'b\\c-hunter2")
    report = drill.run(making.make().path)
    assert report.wrong == []
    assert (tmp_path / "passwords").read_text() == "a'b\\c-hunter2\n" * 2
    assert "hunter2" not in (tmp_path / "arguments").read_text()


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@on_postgresql
def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: Any, leaves_nothing: Callable[[], None]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnableError, match=r"pg_dump is not installed.*postgresql-client"):
        making.make()
    leaves_nothing()


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@on_postgresql
def test_what_pg_dump_says_is_told(monkeypatch: Any, leaves_nothing: Callable[[], None]) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "sslmode", "require")
    connection.close()
    with pytest.raises(Exception, match="SSL"):
        making.make()
    leaves_nothing()
