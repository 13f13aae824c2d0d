"""An upgrade is tried on a copy; where that fails, the database stays as it is, byte for byte in its tables."""

from pathlib import Path
from typing import Any

import pytest

from core.ops.backup.making import Made
from tests.core.ops.backup.conftest import Place
from tests.services.server import free_port

pytestmark = pytest.mark.both_databases


@pytest.fixture
def old(made: Made, place: Place) -> Place:
    """A place as an older version left it."""
    restored = place.manage("restore", str(made.path))
    assert restored.returncode == 0, restored.stderr
    undone = place.manage("migrate", "core", "0011", "-v0")
    assert undone.returncode == 0, undone.stderr
    return place


def migrations(place: Place) -> Any:
    return place.ask("SELECT app, name FROM django_migrations ORDER BY id")


def archives(place: Place) -> list[Path]:
    return list((place.data_dir / "backups").glob("*.tar"))


def test_a_copy_goes_first_and_then_the_database(old: Place) -> None:
    tried = old.manage("upgrade", "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert "A copy was migrated. 1 sealed entries are intact." in tried.stdout
    assert ("core", "0015_backups") not in migrations(old)

    done = old.manage("upgrade")
    assert done.returncode == 0, done.stderr
    assert "The database is up to date." in done.stdout
    assert ("core", "0015_backups") in migrations(old)
    assert old.ask("SELECT username FROM core_user") == [("ada",)]
    names = {name for (name,) in old.ask("SELECT name FROM core_backup")}
    assert names == {path.name for path in archives(old)}
    assert len(names) == 2
    assert old.manage("upgrade").stdout == "The database is up to date.\n"


def test_where_the_copy_fails_the_database_is_left_alone(old: Place) -> None:
    old.ask("CREATE TABLE core_backup (in_the_way integer)")
    before = migrations(old)
    done = old.manage("upgrade")
    assert done.returncode == 1
    assert "The copy could not be migrated; the database is as it was" in done.stderr
    assert "already exists" in done.stderr
    assert migrations(old) == before
    assert old.ask("SELECT count(*) FROM core_backup") == [(0,)]
    assert len(archives(old)) == 1
    assert not list((old.data_dir / "backups").glob(".part-*"))


def test_an_empty_database_is_just_made(place: Place) -> None:
    assert place.manage("upgrade", "--dry-run").stdout == "The database was empty. Its tables would be made.\n"
    assert place.manage("upgrade").stdout == "The database was empty. Its tables are made.\n"
    assert ("core", "0015_backups") in migrations(place)
    assert not archives(place)


def test_whoever_runs_is_in_the_way(old: Place) -> None:
    old.ask(
        "INSERT INTO core_lease (name, holder, held_until) VALUES ('web:1', 'a', '2999-01-01 00:00:00'),"
        " ('beat:1', 'b', '2999-01-01 00:00:00'), ('worker:1', 'c', '2999-01-01 00:00:00')"
    )
    done = old.manage("upgrade")
    assert done.returncode == 1
    assert "Processes run on this database (1 web, 1 worker, 1 scheduler)" in done.stderr
    assert not archives(old)


def test_a_database_of_a_newer_version_is_refused(made: Made, place: Place) -> None:
    assert place.manage("restore", str(made.path)).returncode == 0
    place.ask(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('core', '9999_later', '2026-01-01 00:00:00'),"
        " ('gone', '0001_initial', '2026-01-01 00:00:00')"
    )
    for command in ("upgrade", "up"):
        done = place.manage(command, SUTAZAI_PORT=str(free_port()))
        assert done.returncode == 1
        assert "belongs to a newer version of this program (core.9999_later)" in done.stderr
    place.ask("DELETE FROM django_migrations WHERE name = '9999_later'")
    assert place.manage("upgrade").stdout == "The database is up to date.\n"


def test_starting_a_new_version_upgrades_as_carefully(old: Place) -> None:
    old.ask("CREATE TABLE core_backup (in_the_way integer)")
    before = migrations(old)
    done = old.manage("up", SUTAZAI_PORT=str(free_port()))
    assert done.returncode == 1
    assert "The copy could not be migrated; the database is as it was" in done.stderr
    assert migrations(old) == before
    assert len(archives(old)) == 1
