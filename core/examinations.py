"""What of the platform `manage.py doctor` looks at, besides the parts that `core.ops.probes` knows."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.core.mail import get_connection
from django.db import NotSupportedError, connection, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.models.functions import Cast
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from packaging.requirements import Requirement

from core import formats, secrets
from core.checks import TAG
from core.models import MaintenanceRun, SigningKey
from core.ops import clock, maintenance, programs, schedules
from core.ops.doctor import Diagnosis, error, examination, ok, remedy, warning
from core.rotations import ENCRYPTED

REQUIREMENTS = "requirements.txt"
NO_SERVER = frozenset({"", "filesystem", "unix"})
THIS_MACHINE = frozenset({None, "localhost", "127.0.0.1", "::1"})
MIN_PASSWORD = 12
# Of a clock: what is told, and what makes leases end too early or too late.
DOUBTFUL_SECONDS = 2.0
WRONG_SECONDS = 15.0
# By how much a schedule may be late: a beat that was started just now has to send everything first.
PATIENCE = timedelta(minutes=2)
# There, containers get secrets that everybody inside may read.
SHARED_SECRETS = "/run/secrets/"

remedy(
    "database", "Start it, and check DATABASE_URL: the log of the web process has the reason.", page="console-pools"
)
remedy("broker", "Start it, and check CELERY_BROKER_URL. Until then tasks are accepted, and begin later.")
remedy(
    "redis",
    "Start it, and check REDIS_URL. Until then processes look for news instead of being woken.",
    page="console-pools",
)
remedy(
    "disk",
    "Make room on the disk of SUTAZAI_DATA_DIR, or move that folder to another one.",
    page="admin:core_backup_changelist",
)
remedy(
    "workers", "Start the group with `make run`, or look in its log for why the worker ended.", page="console-workers"
)
remedy("cache", "Mend Redis, or the database, where it stands. Until then answers are not kept.", page="console-cache")


@examination("settings")
def the_settings() -> Iterator[Diagnosis]:
    tags = [TAG, "security"] if settings.IS_PRODUCTION else [TAG]
    found = run_checks(tags=tags, include_deployment_checks=settings.IS_PRODUCTION)
    for message in found:
        judge = error if message.is_serious() else warning
        yield judge(message.msg, message.hint or "See sutazai/settings.py.")
    if not found:
        yield ok(f"Nothing is doubtful for SUTAZAI_ENV={settings.ENVIRONMENT}.")


# Versions ------------------------------------------------------------------------------------------------------------


@examination("versions")
def the_versions() -> Iterator[Diagnosis]:
    wrong = list(_wrong_packages((settings.BASE_DIR / REQUIREMENTS).read_text()))
    if wrong:
        yield warning(
            f"Other packages are installed than {REQUIREMENTS} locks: {_some(wrong)}.",
            f"python3 bin/environment.py {REQUIREMENTS}, then start again.",
        )
    else:
        yield ok(f"Python {sys.version.split()[0]}, and every package as {REQUIREMENTS} locks it.")


def _wrong_packages(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line[:1].isalnum():
            wanted = Requirement(line.rstrip("\\ "))
            if wanted.marker is None or wanted.marker.evaluate():
                yield from _wrong(wanted)


def _wrong(wanted: Requirement) -> Iterator[str]:
    try:
        installed = version(wanted.name)
    except PackageNotFoundError:
        yield f"{wanted.name} is missing"
        return
    if installed not in wanted.specifier:
        yield f"{wanted.name} is {installed} instead of {str(wanted.specifier).removeprefix('==')}"


@examination("database version", needs_database=True)
def the_database_version() -> Iterator[Diagnosis]:
    name = ".".join(map(str, connection.get_database_version()))
    try:
        connection.check_database_version_supported()
    except NotSupportedError as failure:
        yield error(str(failure), "Upgrade the database server.")
    else:
        yield ok(f"{connection.display_name} {name}.")


# Secrets -------------------------------------------------------------------------------------------------------------


@examination("secrets")
def the_secrets() -> Iterator[Diagnosis]:
    """A short or guessable secret of our own stops every command, so what is left are the passwords of servers."""
    weak = [name for name, url in _addresses() if _is_weak(url)]
    for name in weak:
        yield warning(
            f"{name} leads to another machine, with a password of fewer than {MIN_PASSWORD} characters.",
            f"Give that server's user a random password, and change {name}.",
        )
    if not weak:
        yield ok("Our own are long and random, and so are the passwords with which we go to other machines.")


def _addresses() -> Iterator[tuple[str, str]]:
    database = settings.DATABASES["default"]
    if database.get("HOST") and not str(database["HOST"]).startswith("/"):
        yield "DATABASE_URL", f"postgres://user:{database.get('PASSWORD', '')}@{database['HOST']}"
    yield "REDIS_URL", settings.REDIS_URL
    yield "CELERY_BROKER_URL", settings.CELERY_BROKER_URL


def _is_weak(url: str) -> bool:
    """Whether others, who reach a server on another machine, could guess its password."""
    parts = urlsplit(url)
    if parts.scheme in NO_SERVER or parts.hostname in THIS_MACHINE:
        return False
    return len(unquote(parts.password or "")) < MIN_PASSWORD


@examination("stored secrets", needs_database=True)
def the_stored_secrets() -> Iterator[Diagnosis]:
    if unreadable := sorted({where for where, token in _stored() if not _decrypts(token)}):
        yield error(
            f"No key of SUTAZAI_ENCRYPTION_KEYS decrypts what is stored: {_some(unreadable)}.",
            "Put the key back on the list under which it was written, then run `manage.py rotate_secrets`.",
        )
    else:
        yield ok("SUTAZAI_ENCRYPTION_KEYS decrypts what is stored.")


def _stored() -> Iterator[tuple[str, str]]:
    """Everything that `manage.py rotate_secrets` would encrypt again: where it stands, and as it stands there."""
    for field in (field for model in apps.get_models() for field in secrets.encrypted_fields(model)):
        rows = field.model._base_manager.annotate(token=Cast(field.name, models.TextField()))
        for token in rows.exclude(token=None).exclude(token="").values_list("token", flat=True).iterator():
            yield f"{field.model._meta.verbose_name}, {field.name}", token
    for key in SigningKey.objects.all():
        yield "signing keys", key.private_key
    for row in Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN):
        for name in ENCRYPTED & row.data.keys():
            yield "second factors", row.data[name]


def _decrypts(token: str) -> bool:
    try:
        secrets.decrypt(token)
    except secrets.CannotDecrypt:
        return False
    return True


# Files ---------------------------------------------------------------------------------------------------------------


@examination("files")
def the_files() -> Iterator[Diagnosis]:
    found = [
        *_of_the_data_folder(settings.DATA_DIR),
        *_of_the_backups(settings.BACKUP_DIR),
        *_of_secret_files(os.environ.items()),
    ]
    yield from found or [ok(f"{settings.DATA_DIR} is whole, and only its owner reads it.")]


def _of_the_data_folder(folder: Path) -> Iterator[Diagnosis]:
    guarded = [folder, *folder.glob("secrets"), *folder.glob("secrets/*")]
    entries = {*folder.iterdir(), *guarded}
    if open_to_others := [path for path in guarded if _mode(path) & 0o077]:
        names = " ".join(map(str, open_to_others))
        yield warning(f"Others can open {names}: secrets are there.", f"chmod go= {names}")
    owner = folder.stat().st_uid
    if strange := [str(path) for path in sorted(entries) if path.lstat().st_uid != owner]:
        yield error(
            f"{_some(strange)} does not belong to the owner of {folder}, as after a command that another user ran.",
            f"chown -R --reference={folder} {folder}",
        )
    if fixed := [str(path) for path in sorted(entries) if not os.access(path, os.W_OK) and not path.is_symlink()]:
        yield error(
            f"{_some(fixed)} cannot be written to.",
            "Run the program, and this command, as the owner; let the owner write there.",
        )


def _of_the_backups(folder: Path) -> Iterator[Diagnosis]:
    """Whoever makes a backup makes the folder, if it is not there."""
    if not folder.is_dir():
        there = next(parent for parent in folder.parents if parent.exists())
        if folder.exists() or not there.is_dir() or not os.access(there, os.W_OK):
            yield error(f"{folder} cannot be made, so no backup can.", "Set SUTAZAI_BACKUP_DIR to a folder that can.")
    elif not os.access(folder, os.W_OK):
        yield error(f"No backup can be written to {folder}.", "Let the user who runs the program write there.")
    elif open_to_others := [path for path in (folder, *folder.glob("*.tar")) if _mode(path) & 0o007]:
        names = _some([str(path) for path in open_to_others])
        yield warning(f"Everybody can open {names}: all rows of the database are there.", f"chmod -R o= {folder}")


def _of_secret_files(environment: Iterable[tuple[str, str]]) -> Iterator[Diagnosis]:
    """Files that hold secrets, as NAME_FILE names them."""
    for name, value in environment:
        is_ours = name.startswith(("SUTAZAI_", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"))
        if is_ours and name.endswith("_FILE") and value and not value.startswith(SHARED_SECRETS):
            path = Path(value)
            if _mode(path) & 0o077:
                yield warning(f"Others can open {path}, which {name} names.", f"chmod go= {path}")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Time ----------------------------------------------------------------------------------------------------------------


@examination("clock", needs_database=True)
def the_clock() -> Iterator[Diagnosis]:
    if connection.vendor == "sqlite":
        yield ok(f"It is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; leases use this machine's clock.")
        return
    yield of_clock("this machine", (timezone.now() - clock.now()).total_seconds(), of_whom="the database")


def of_clock(whose: str, ahead_seconds: float, *, of_whom: str) -> Diagnosis:
    """Judge two clocks that differ by so much."""
    if abs(ahead_seconds) <= DOUBTFUL_SECONDS:
        return ok(f"The clock of {whose} agrees with that of {of_whom}.")
    judge = error if abs(ahead_seconds) > WRONG_SECONDS else warning
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    far = formats.duration(abs(ahead_seconds))
    return judge(
        f"The clock of {whose} is {far} {direction} that of {of_whom}.",
        "Have both keep time by NTP: `timedatectl set-ntp true`.",
    )


# The database's content ----------------------------------------------------------------------------------------------


@examination("migrations", needs_database=True)
def the_migrations() -> Iterator[Diagnosis]:
    executor = MigrationExecutor(connection)
    loader = executor.loader
    missing = [str(migration) for migration, _ in executor.migration_plan(loader.graph.leaf_nodes())]
    ours = {config.label for config in apps.get_app_configs()}
    newer = [f"{app}.{name}" for app, name in sorted(set(loader.applied_migrations) - _known(loader)) if app in ours]
    if missing:
        yield error(f"The database has not been through {_some(missing)}.", "manage.py migrate, after a backup.")
    if newer:
        yield error(
            f"The database has been through {_some(newer)}, which this version does not know.",
            "Run the version that wrote it, or restore the backup that was made before the upgrade.",
        )
    if not missing and not newer:
        yield ok("The database has the tables of this version.")


def _known(loader: MigrationLoader) -> set[tuple[str, str]]:
    """The migrations of this version, and those that it has put together into one."""
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    return {*loader.disk_migrations, *replaced}


@examination("schedules", needs_database=True)
def the_schedules() -> Iterator[Diagnosis]:
    rows = {row.name: row for row in PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked")}
    expected = [schedules.name_of(job) for job in settings.MAINTENANCE_SCHEDULES]
    if missing := [name for name in expected if name not in rows]:
        yield error(f"These schedules are missing: {_some(missing)}.", "manage.py ensure_schedules")
    if disabled := [name for name in expected if name in rows and not rows[name].enabled]:
        yield warning(f"Somebody disabled {_some(disabled)}.", "Enable them in the console, under Schedules.")
    late = [row.name for row in rows.values() if row.enabled and _is_late(row)]
    if late:
        yield error(
            f"These should have been sent long ago: {_some(late)}.",
            "Start the group with `make run`: a beat has to run. Its log tells why it ended.",
        )
    if failed := list(_failed_jobs()):
        yield warning(
            f"The last run of these jobs failed: {_some(failed)}.",
            "Maintenance in the console tells why; then `manage.py maintain --job NAME`.",
        )
    if not (missing or disabled or late or failed):
        yield ok(f"{len(rows)} schedules are kept.")


def _is_late(row: PeriodicTask) -> bool:
    if row.one_off or (row.start_time and row.start_time > timezone.now()):
        return False
    left: timedelta = row.schedule.remaining_estimate(row.last_run_at or row.date_changed)
    return left < -PATIENCE


def _failed_jobs() -> Iterator[str]:
    for job in maintenance.jobs():
        ended = MaintenanceRun.objects.filter(job=job.name).exclude(status=MaintenanceRun.Status.RUNNING)
        if ended.order_by("-id").values_list("status", flat=True).first() == MaintenanceRun.Status.FAILED:
            yield job.name


# The group -----------------------------------------------------------------------------------------------------------


# What only some installations have ----------------------------------------------------------------------------------


@examination("mail")
def the_mail_server() -> Iterator[Diagnosis]:
    if not settings.EMAIL_IS_CONFIGURED:
        yield ok("No mail server is configured (SUTAZAI_EMAIL_URL), so nobody gets emails.")
        return
    server = get_connection()
    try:
        server.open()
        server.close()
    except OSError as failure:  # which an SMTPException is
        yield error(f"The mail server does not let us in: {failure}", "Start it, and check SUTAZAI_EMAIL_URL.")
    else:
        yield ok("The mail server lets us in.")


@examination("backup programs", needs_database=True)
def the_backup_programs() -> Iterator[Diagnosis]:
    """What backups and drills of PostgreSQL need, here; they are made where workers run."""
    if connection.vendor == "sqlite":
        return
    found = [*_of_program("pg_dump"), *_of_program("pg_restore")]
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
        role, may_create = cursor.fetchone()
    if not may_create:
        found.append(warning("No drill can be made: it restores into a new database.", f"ALTER ROLE {role} CREATEDB;"))
    yield from found or [ok("pg_dump and pg_restore are as new as the server, and drills may make databases.")]


def _of_program(name: str) -> Iterator[Diagnosis]:
    """Only one as new as the server understands it."""
    wanted = connection.get_database_version()[0]
    program = shutil.which(name)
    if program is None:
        yield error(
            f"{name} is not installed, so no backup is made here.", "On Debian: apt-get install postgresql-client"
        )
        return
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version_found = re.search(r"\d+", said)
    if version_found is None or int(version_found[0]) < wanted:
        yield error(
            f"{name} is too old for the server, which is PostgreSQL {wanted}: {said.strip()}.",
            f"Install the client programs of PostgreSQL {wanted}.",
        )


@examination("web")
def the_web_process() -> Iterator[Diagnosis]:
    if programs.web_answers():
        yield ok(f"It answers at {programs.web_address()}.")
    else:
        yield warning(
            f"Nobody answers at {programs.web_address()}.",
            "Start the group with `make run`; if it runs elsewhere, see SUTAZAI_HOST and SUTAZAI_PORT.",
        )


def _some(names: list[str]) -> str:
    """Name the first few."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
