"""Trying a backup: restored aside, brought up to date, and looked through. Nothing that is in use is touched.

1. Every checksum is compared.
2. The secrets are opened, if it has any.
3. The database is restored aside; its pages and references are checked, its rows counted table by table.
4. Missing migrations are applied there, as the first start after a restoration would.
5. The audit log is verified with the secrets that a restoration would use.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from core.ops.backup import databases, inspection, sealed_secrets
from core.ops.backup.archive import Archive
from core.ops.backup.errors import BackupError, UnableError
from core.ops.backup.folders import working_in
from core.ops.backup.inspection import CommandFailedError
from core.ops.backup.manifest import Manifest


@dataclass
class Report:
    """What a drill found. wrong: why one should not rely on the backup. seconds: what all of it took."""

    archive: Path
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def has_passed(self) -> bool:
        return not self.wrong

    def lines(self) -> list[str]:
        return [*self.found, *(f"WRONG: {text}" for text in self.wrong)]


def run(archive: Path) -> Report:
    """Try an archive. What is wrong with it stands in the report; raises UnableError where nobody can tell."""
    report, started = Report(archive), time.monotonic()
    try:
        with working_in(settings.BACKUP_DIR) as part:
            _try(archive, part, report)
    except UnableError:
        raise
    except BackupError as error:
        report.wrong.append(str(error))
    except CommandFailedError as error:
        report.wrong.append(f"A command on the restored database failed: {error}")
    except OSError as error:
        raise UnableError(f"{archive} cannot be tried: {error.strerror or error}.") from error
    report.seconds = time.monotonic() - started
    return report


def _try(path: Path, part: Path, report: Report) -> None:
    database = databases.ours()
    with Archive.open(path) as archive:
        manifest = archive.manifest
        report.found.append(f"Made at {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by version {manifest.version}.")
        refuse_other_kind(manifest)
        databases.refuse_newer(manifest.migrations)
        archive.check()
        report.found.append(f"All {len(manifest.members)} checksums are right.")
        environment = _environment(archive, report)
        dump = part / database.member
        archive.extract(database.member, dump)
    with database.aside(dump, manifest.database_bytes) as copy:
        report.wrong += inspection.differences(database, copy, manifest)
        if not report.wrong:
            report.found.append(f"All {manifest.total_rows} rows of {len(manifest.rows)} tables are there.")
        environment["DATABASE_URL"] = copy.url
        if pending := databases.missing(manifest.migrations):
            inspection.manage("migrate", "--no-input", "-v0", environment=environment)
            report.found.append(f"{len(pending)} migrations that it lacks can be applied.")
        report.found.append(inspection.manage("audit", "verify", environment=environment))


def refuse_other_kind(manifest: Manifest) -> None:
    """Raises BackupError where the archive is of another kind of database than this program uses."""
    vendor = databases.ours().vendor
    if manifest.vendor != vendor:
        raise BackupError(f"The backup is of {manifest.vendor}, and DATABASE_URL names {vendor}.")


def _environment(archive: Archive, report: Report) -> dict[str, str]:
    """The variables of a program that works with the archive's secrets; with ours, where it has none."""
    members = archive.manifest.members
    if sealed_secrets.MEMBER not in members:
        report.found.append("It holds no secrets: a restoration needs them from elsewhere.")
        return {}
    sealed = archive.read(sealed_secrets.MEMBER, max_bytes=sealed_secrets.MAX_BYTES)
    found = sealed_secrets.open_sealed(sealed, settings.BACKUP_PASSPHRASE, members)
    ours = sealed_secrets.present()
    same = "those in use" if found == ours else "others than those in use now"
    report.found.append(f"Its secrets open; they are {same}.")
    return sealed_secrets.environment(found)
