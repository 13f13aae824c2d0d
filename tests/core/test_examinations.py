import os
from datetime import timedelta
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from core import examinations, secrets
from core.access import signing_keys
from core.models import MaintenanceRun
from core.ops import clock
from core.ops.doctor import Verdict
from tests.factories import make_user
from tests.mail_server import MailServer


def verdicts(found):
    return [(diagnosis.verdict, diagnosis.text) for diagnosis in found]


def assert_one(found, verdict, *words):
    """Check that exactly one thing was found, that it says these words, and how to mend it."""
    (diagnosis,) = found
    assert diagnosis.verdict == verdict
    assert all(word in diagnosis.text for word in words), diagnosis.text
    assert bool(diagnosis.mend) == (verdict != Verdict.OK)


# Settings, secrets ---------------------------------------------------------------------------------------------------


def test_settings_that_no_check_doubts_are_well():
    assert_one(examinations.the_settings(), Verdict.OK, "SUTAZAI_ENV=local")


def test_a_secret_that_is_used_twice_is_an_error(settings):
    settings.API_KEY_PEPPER = settings.SECRET_KEY
    assert_one(examinations.the_settings(), Verdict.ERROR, "used twice")


def test_production_is_held_against_django_s_own_checks_too(settings):
    settings.IS_PRODUCTION = True
    texts = [text for _, text in verdicts(examinations.the_settings())]
    assert any("SECURE_SSL_REDIRECT" in text for text in texts)


@pytest.mark.parametrize(
    "url",
    ["filesystem://localhost", "redis://localhost:6379", f"amqp://user:{'x' * 12}@broker//", "unix:///run/redis"],
)
def test_addresses_without_a_doubtful_password_are_well(settings, url):
    settings.CELERY_BROKER_URL, settings.REDIS_URL = url, ""
    settings.DATABASES["default"]["HOST"] = "/run/postgresql"
    assert_one(examinations.the_secrets(), Verdict.OK)


@pytest.mark.parametrize("url", ["redis://cache:6379/0", "amqp://guest:guest@broker:5672//"])
def test_a_short_password_of_another_machine_is_doubtful_and_is_not_told(settings, url):
    settings.CELERY_BROKER_URL, settings.REDIS_URL = url, ""
    settings.DATABASES["default"]["HOST"] = "localhost"
    found = list(examinations.the_secrets())
    assert_one(found, Verdict.WARNING, "CELERY_BROKER_URL")
    assert "guest" not in found[0].text


@pytest.mark.django_db
def test_a_stored_secret_that_no_key_decrypts_is_an_error(settings):
    signing_keys.rotate()
    Authenticator.objects.create(
        user=make_user(), type=Authenticator.Type.TOTP, data={"secret": secrets.encrypt("JBSWY3DP")}
    )
    assert_one(examinations.the_stored_secrets(), Verdict.OK)
    settings.ENCRYPTION_KEYS = ["another key " * 4]
    assert_one(examinations.the_stored_secrets(), Verdict.ERROR, "second factors", "signing keys")


# Versions ------------------------------------------------------------------------------------------------------------


def test_packages_are_held_against_the_lock(settings, tmp_path: Path):
    settings.BASE_DIR = tmp_path
    lock = tmp_path / "requirements.txt"
    lock.write_text('django==5.2.19 ; sys_platform == "linux" \\\n    --hash=sha256:00\n    # via -r base.in\n')
    assert_one(examinations.the_versions(), Verdict.OK, "Python 3.")
    lock.write_text('django==1.0 \\\n    --hash=sha256:00\nno-such-package==1\nabsent==2 ; sys_platform == "win32"\n')
    assert_one(
        examinations.the_versions(), Verdict.WARNING, "django is 5.2.19 instead of 1.0", "no-such-package is missing"
    )


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_database_s_version_is_told():
    assert_one(examinations.the_database_version(), Verdict.OK, connection.display_name)


@pytest.mark.django_db
def test_a_database_that_is_too_old_is_an_error(monkeypatch):
    monkeypatch.setattr(connection.features, "minimum_database_version", (999,))
    assert_one(examinations.the_database_version(), Verdict.ERROR, "999")


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(settings, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(examinations.os, "environ", {})
    settings.DATA_DIR = tmp_path / "data"
    secret = settings.DATA_DIR / "secrets" / "secret_key"
    secret.parent.mkdir(parents=True, mode=0o700)
    settings.DATA_DIR.chmod(0o700)
    secret.touch(0o600)
    return settings.DATA_DIR


def test_a_folder_that_only_its_owner_opens_is_well(data_dir):
    assert_one(examinations.the_files(), Verdict.OK, str(data_dir))


@pytest.mark.parametrize("path", [".", "secrets", "secrets/secret_key"])
def test_what_others_can_open_is_doubtful(data_dir, path):
    (data_dir / path).chmod(0o755)
    assert_one(examinations.the_files(), Verdict.WARNING, str(data_dir / path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_an_error(data_dir):
    file = data_dir / "db.sqlite3"
    file.touch()
    os.chown(file, 65534, 65534)
    assert_one(examinations.the_files(), Verdict.ERROR, str(file), "another user")


@pytest.fixture
def backup_dir(data_dir, settings, tmp_path: Path) -> Path:
    settings.BACKUP_DIR = tmp_path / "elsewhere" / "backups"
    return settings.BACKUP_DIR


def test_a_folder_of_backups_that_can_be_made_is_well(backup_dir):
    assert_one(examinations.the_files(), Verdict.OK)


def test_a_folder_of_backups_that_cannot_be_made_is_an_error(backup_dir):
    backup_dir.parent.touch()
    assert_one(examinations.the_files(), Verdict.ERROR, str(backup_dir), "cannot be made")


def test_a_folder_of_backups_where_nothing_can_be_written_is_an_error(backup_dir, monkeypatch):
    backup_dir.mkdir(parents=True)
    monkeypatch.setattr(examinations.os, "access", lambda path, _: path != backup_dir)
    assert_one(examinations.the_files(), Verdict.ERROR, str(backup_dir), "No backup can be written")


def test_a_backup_that_everybody_can_open_is_doubtful(backup_dir):
    backup_dir.mkdir(parents=True, mode=0o750)
    archive = backup_dir / "sutazai-20260101T000000Z-abcdef.tar"
    archive.touch(0o600)
    assert_one(examinations.the_files(), Verdict.OK)
    archive.chmod(0o604)
    assert_one(examinations.the_files(), Verdict.WARNING, str(archive), "all rows")


def test_what_cannot_be_written_to_is_an_error(data_dir, monkeypatch):
    monkeypatch.setattr(examinations.os, "access", lambda path, _: path != data_dir / "secrets")
    assert_one(examinations.the_files(), Verdict.ERROR, str(data_dir / "secrets"))


def test_a_file_that_names_a_secret_is_looked_at(data_dir, tmp_path: Path, monkeypatch):
    file = tmp_path / "key"
    file.touch(0o644)
    monkeypatch.setattr(examinations.os, "environ", {"SUTAZAI_SECRET_KEY_FILE": str(file), "OTHER_FILE": str(file)})
    assert_one(examinations.the_files(), Verdict.WARNING, str(file), "SUTAZAI_SECRET_KEY_FILE")
    file.chmod(0o600)
    assert_one(examinations.the_files(), Verdict.OK)


# Mail, and programs ------------------------------------------------------------------------------------------------


def test_a_mail_server_is_asked_whether_it_lets_us_in(settings):
    settings.EMAIL_IS_CONFIGURED, settings.EMAIL_BACKEND = True, "django.core.mail.backends.smtp.EmailBackend"
    with MailServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        assert_one(examinations.the_mail_server(), Verdict.OK, "lets us in")
    assert_one(examinations.the_mail_server(), Verdict.ERROR, "does not let us in")


def test_no_mail_server_is_no_mistake():
    assert_one(examinations.the_mail_server(), Verdict.OK, "SUTAZAI_EMAIL_URL")


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_programs_of_postgresql_are_looked_for(monkeypatch):
    found = list(examinations.the_backup_programs())
    if connection.vendor == "sqlite":
        assert found == []
        return
    assert_one(found, Verdict.OK, "pg_dump")
    with monkeypatch.context() as patch:
        patch.setattr(connection, "get_database_version", lambda: (99, 1))
        too_old = list(examinations.the_backup_programs())
    assert [diagnosis.verdict for diagnosis in too_old] == [Verdict.ERROR] * 2
    assert "too old for the server, which is PostgreSQL 99" in too_old[0].text
    monkeypatch.setattr(examinations.shutil, "which", lambda _: None)
    missing = list(examinations.the_backup_programs())
    assert ["is not installed" in diagnosis.text for diagnosis in missing] == [True] * 2


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [(0.5, Verdict.OK, "agrees"), (-5, Verdict.WARNING, "5 s behind"), (90, Verdict.ERROR, "1 min 30 s ahead of")],
)
def test_two_clocks_are_compared(ahead, verdict, words):
    assert_one([examinations.of_clock("this machine", ahead, of_whom="gpu-1")], verdict, words)


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_machine_s_clock_is_held_against_the_database_s():
    assert_one(examinations.the_clock(), Verdict.OK)
    if connection.vendor == "postgresql":
        previous = clock.use(lambda: timezone.now() + timedelta(hours=2))
        try:
            assert_one(examinations.the_clock(), Verdict.ERROR, "2 h 00 min behind")
        finally:
            clock.use(previous)


# The database's content ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_tables_of_this_version_are_well():
    assert_one(examinations.the_migrations(), Verdict.OK)


@pytest.mark.django_db
def test_a_migration_that_is_missing_is_an_error():
    MigrationRecorder(connection).record_unapplied("agents", "0007_fair_queue")
    assert_one(examinations.the_migrations(), Verdict.ERROR, "agents.0007_fair_queue")


@pytest.mark.django_db
def test_a_database_of_a_newer_version_is_an_error():
    MigrationRecorder(connection).record_applied("agents", "9999_of_tomorrow")
    MigrationRecorder(connection).record_applied("removed_app", "0001_initial")
    assert_one(examinations.the_migrations(), Verdict.ERROR, "agents.9999_of_tomorrow")


@pytest.fixture
def kept_schedules(db):
    call_command("ensure_schedules")
    PeriodicTask.objects.update(last_run_at=timezone.now())


def test_schedules_that_are_kept_are_well(kept_schedules):
    assert_one(examinations.the_schedules(), Verdict.OK)


def test_a_schedule_that_is_missing_is_an_error(kept_schedules):
    PeriodicTask.objects.get(name="maintenance: sweep_cache").delete()
    assert_one(examinations.the_schedules(), Verdict.ERROR, "sweep_cache")


def test_a_disabled_schedule_is_doubtful(kept_schedules):
    long_ago = timezone.now() - timedelta(days=9)
    PeriodicTask.objects.filter(name="maintenance: sweep_cache").update(enabled=False, last_run_at=long_ago)
    assert_one(examinations.the_schedules(), Verdict.WARNING, "disabled", "sweep_cache")


def test_a_schedule_that_nobody_sends_is_an_error(kept_schedules):
    late = timezone.now() - timedelta(minutes=1) - examinations.PATIENCE
    PeriodicTask.objects.update(last_run_at=late)  # most run every hour or every day
    assert_one(
        examinations.the_schedules(),
        Verdict.ERROR,
        "long ago: maintenance: refresh_models, maintenance: send_due_webhooks.",
    )


def test_a_job_whose_last_run_failed_is_doubtful(kept_schedules):
    now = timezone.now()
    for job, status in (("sweep_cache", "failed"), ("warm_cache", "failed"), ("warm_cache", "succeeded")):
        MaintenanceRun.objects.create(job=job, trigger="schedule", status=status, started_at=now)
    assert_one(examinations.the_schedules(), Verdict.WARNING, "failed: sweep_cache.")


def test_a_web_process_that_does_not_answer_is_doubtful(settings):
    settings.PORT = 1
    assert_one(examinations.the_web_process(), Verdict.WARNING, "http://127.0.0.1:1")
