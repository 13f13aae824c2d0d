"""Backups of the test's own database, in a folder of the test's own, and places to restore them into."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from core import audit
from core.audit import sealer
from core.ops.backup import databases, making
from core.ops.backup.archive import Archive, Writer
from core.ops.backup.making import Made
from tests.factories import make_user

ROOT = Path(__file__).resolve().parents[4]
PASSPHRASE = "five words are quite enough"


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    """The folder of backups, beside one of files to keep."""
    settings.BACKUP_DIR = tmp_path / "backups"
    settings.AUDIT_ARCHIVE = tmp_path / "audit"
    settings.BACKUP_PASSPHRASE = PASSPHRASE
    return settings.BACKUP_DIR


@pytest.fixture
def made(transactional_db: None, settings: Any) -> Made:
    """A backup of a person, a sealed entry of the audit log, and a file of its archive."""
    make_user(username="ada")
    audit.record("thing.done", detail="before the backup")
    sealer.seal_waiting()
    settings.AUDIT_ARCHIVE.mkdir()
    (settings.AUDIT_ARCHIVE / "audit-1-2.jsonl").write_text("{}\n")
    (settings.AUDIT_ARCHIVE / "link").symlink_to("/etc/passwd")
    return making.make()


def changed(made: Made, target: Path, **facts: Any) -> Path:
    """The same archive, with another manifest whose checksums are right."""
    with Archive.open(made.path) as archive, target.open("wb") as file:
        writer = Writer(file)
        for name in archive.manifest.members:
            extracted = target.with_name("extracted")
            archive.extract(name, extracted)
            writer.add(name, extracted)
            extracted.unlink()
        writer.finish(replace(archive.manifest, **facts))
    return target


@dataclass
class Place:
    """Somewhere to restore to: an empty data folder, and on PostgreSQL an empty database."""

    data_dir: Path
    environment: dict[str, str]

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        name = str(self.data_dir / "db.sqlite3") if connection.vendor == "sqlite" else self.data_dir.name
        wrapper = databases.opened(NAME=name)
        with wrapper.cursor() as cursor:
            cursor.execute(statement)
            found = cursor.fetchall() if cursor.description else []
        wrapper.close()
        return found


@pytest.fixture
def place(transactional_db: None, tmp_path: Path) -> Iterator[Place]:
    data_dir = tmp_path / f"place_{os.getpid()}"
    environment = {
        **{name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")},
        "DJANGO_SETTINGS_MODULE": "sutazai.settings",
        "SUTAZAI_DATA_DIR": str(data_dir),
        "SUTAZAI_BACKUP_PASSPHRASE": PASSPHRASE,
        "SUTAZAI_LOG_LEVEL": "WARNING",
    }
    if connection.vendor == "sqlite":
        yield Place(data_dir, environment)
        return
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {data_dir.name}")
    yield Place(data_dir, {**environment, "DATABASE_URL": databases.url_of(data_dir.name)})
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {data_dir.name} WITH (FORCE)")


@pytest.fixture
def leaves_nothing(folder: Path) -> Callable[[], None]:
    """Say that there is no archive, and nothing half of one."""

    def check() -> None:
        assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []

    return check
