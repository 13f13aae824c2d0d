"""Which backups there are, which are good, and which go."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from core.models import Backup
from core.ops import metrics
from core.ops.backup import catalogue, drill, making
from core.ops.backup.making import Made
from tests.factories import make_user

METRIC = b"sutazai_backup_age_seconds "


def row(folder: Path, *, hours: float, verdict: str = "", **fields: Any) -> Backup:
    """A backup made so long ago, whose file is there."""
    created_at = timezone.now() - timedelta(hours=hours)
    name = f"sutazai-{created_at:%Y%m%dT%H%M%SZ}-{int(hours):06x}.tar"
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    return Backup.objects.create(name=name, created_at=created_at, size_bytes=1, verdict=verdict, **fields)


@pytest.mark.both_databases
def test_a_backup_and_its_drill_are_a_row(made: Made) -> None:
    catalogue.note(made)
    backup = Backup.objects.get()
    assert (backup.name, backup.size_bytes, backup.has_secrets) == (made.path.name, made.size_bytes, True)
    assert (backup.rows, backup.created_at) == (made.manifest.total_rows, made.manifest.created_at)
    catalogue.note_drill(drill.run(made.path))
    backup.refresh_from_db()
    assert backup.verdict == "passed"
    assert backup.drill_seconds is not None
    assert "1 sealed entries are intact." in backup.report


@pytest.mark.both_databases
def test_archives_that_nobody_noted_are_found_and_those_that_are_gone_are_told(made: Made, folder: Path) -> None:
    (folder / "sutazai-20300101T000000Z-abcdef.tar").write_bytes(b"half of one")
    (folder / "holiday.tar").write_bytes(b"somebody else's")
    catalogue.reconcile()
    damaged, whole = Backup.objects.order_by("name").reverse()
    assert (whole.name, whole.is_good) == (made.path.name, True)
    assert (damaged.verdict, damaged.is_good) == ("failed", False)
    assert "cut off" in damaged.report

    made.path.rename(folder / "elsewhere")
    catalogue.reconcile()
    whole.refresh_from_db()
    assert whole.missing_since is not None
    (folder / "elsewhere").rename(made.path)
    catalogue.reconcile()
    whole.refresh_from_db()
    assert whole.is_good


@pytest.mark.django_db
def test_those_that_are_too_many_or_too_old_go(folder: Path, settings: Any) -> None:
    settings.BACKUP_KEEP, settings.BACKUP_KEEP_DAYS = 3, 2
    kept = [row(folder, hours=hours) for hours in (1, 2)]
    old, too_many = row(folder, hours=49), row(folder, hours=50)
    (folder / "holiday.tar").touch()

    assert catalogue.remove_old() == [old.name, too_many.name]

    assert set(Backup.objects.values_list("name", flat=True)) == {backup.name for backup in kept}
    assert {path.name for path in folder.iterdir()} == {"holiday.tar", *(backup.name for backup in kept)}


@pytest.mark.django_db
def test_a_name_that_leads_elsewhere_removes_nothing_there(folder: Path, settings: Any) -> None:
    settings.BACKUP_KEEP_DAYS = 1
    row(folder, hours=1)
    row(folder, hours=50)
    (folder.parent / "precious").touch()
    Backup.objects.filter(created_at__lt=timezone.now() - timedelta(hours=2)).update(name="../precious")
    assert catalogue.remove_old() == ["../precious"]
    assert (folder.parent / "precious").exists()


@pytest.mark.django_db
def test_the_last_that_can_be_relied_on_stay(folder: Path, settings: Any) -> None:
    settings.BACKUP_KEEP, settings.BACKUP_KEEP_DAYS = 1, 1
    broken = row(folder, hours=1, verdict="failed")
    newest_good = row(folder, hours=60)
    gone = row(folder, hours=61)
    passed = row(folder, hours=62, verdict="passed")
    passed_before = row(folder, hours=63, verdict="passed")
    assert catalogue.remove_old() == [gone.name, passed_before.name]
    assert set(Backup.objects.all()) == {broken, newest_good, passed}


@pytest.mark.django_db
def test_what_cannot_be_relied_on_takes_no_place(folder: Path, settings: Any) -> None:
    settings.BACKUP_KEEP, settings.BACKUP_KEEP_DAYS = 2, 30
    row(folder, hours=1, verdict="failed")
    row(folder, hours=2, missing_since=timezone.now())
    good = [row(folder, hours=hours) for hours in (3, 4)]
    assert catalogue.remove_old() == []
    behind = row(folder, hours=5, verdict="failed")
    assert catalogue.remove_old() == [behind.name]
    assert {backup for backup in Backup.objects.all() if backup.is_good} == set(good)


@pytest.mark.django_db
def test_the_preview_counts_the_one_that_comes(folder: Path, settings: Any) -> None:
    """It will be the newest good one, so that the present one is in nobody's way."""
    settings.BACKUP_KEEP = 1
    passed = row(folder, hours=2, verdict="passed")
    newest = row(folder, hours=1)
    assert catalogue.removable_after_one_more() == [newest.name]
    assert catalogue.remove_old() == []
    assert set(Backup.objects.all()) == {passed, newest}


@pytest.mark.both_databases
def test_the_preview_counts_what_nobody_noted_and_notes_nothing(made: Made, folder: Path, settings: Any) -> None:
    settings.BACKUP_KEEP = 1
    gone = row(folder, hours=1)
    (folder / gone.name).unlink()
    assert set(catalogue.removable_after_one_more()) == {gone.name, made.path.name}
    assert Backup.objects.get() == gone
    gone.refresh_from_db()
    assert gone.missing_since is None


def exposed() -> float | None:
    lines = [line for line in metrics.page("")[1].splitlines() if line.startswith(METRIC)]
    return float(lines[0].removeprefix(METRIC)) if lines else None


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_metric_is_the_age_of_what_one_could_restore(folder: Path) -> None:
    assert exposed() is None
    person = make_user()
    person.date_joined = timezone.now() - timedelta(hours=9)
    person.save()
    assert exposed() == pytest.approx(9 * 3600, abs=60)
    row(folder, hours=5)
    row(folder, hours=3, verdict="failed")
    row(folder, hours=2, missing_since=timezone.now())
    assert exposed() == pytest.approx(5 * 3600, abs=60)


@pytest.mark.django_db
def test_only_our_own_names_are_archives(folder: Path) -> None:
    folder.mkdir()
    (folder / "sutazai-20300101T000000Z-abcdef.tar").symlink_to("/etc/passwd")
    (folder / "sutazai-20300101T000000Z-abcdef.tar.part").touch()
    assert making.archives() == []
