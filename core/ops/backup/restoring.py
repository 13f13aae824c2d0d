"""Restoring a backup into an empty place, and into no other.

Everything that can be known before is looked at before anything is written. The database comes last, because with it
the place is not empty any more: whoever is interrupted before starts again.
"""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import connection

from core import audit
from core.ops.backup import databases, inspection, kept_files, sealed_secrets
from core.ops.backup.archive import Archive
from core.ops.backup.databases import Copy
from core.ops.backup.drill import refuse_other_kind
from core.ops.backup.errors import BackupError, DamagedError, NotEmptyError
from core.ops.backup.folders import put_in_place, working_in
from core.ops.backup.inspection import CommandFailedError
from core.ops.backup.manifest import Manifest
from core.ops.backup.sealed_secrets import Secrets

Tell = Callable[[str], None]


def restore(path: Path, *, tell: Tell, without_secrets: bool = False) -> list[str]:
    """Restore an archive; returns what is wrong with what is there now. Raises BackupError before it changes much.

    without_secrets: leave those in the archive alone, because the right ones are in place.
    """
    database = databases.ours()
    try:
        with Archive.open(path) as archive, working_in(settings.DATA_DIR, wait_seconds=0) as part:
            manifest = archive.manifest
            found = _look(archive, without_secrets=without_secrets)
            archive.check()
            tell(f"All {len(manifest.members)} checksums are right.")
            dump = part / database.member
            archive.extract(database.member, dump)
            _restore_files(archive, tell)
            _restore_secrets(found, manifest, tell)
            database.restore(dump, manifest.database_bytes)
    except OSError as error:
        raise BackupError(f"{path} cannot be restored: {error.strerror or error}.") from error
    tell(f"The database is restored as it was at {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC.")
    wrong = _verify(manifest, found or {}, tell)
    if not databases.missing(manifest.migrations):  # else its tables may not be those of this program yet
        audit.record("backup.restored", target=audit.Subject("backup", "", path.name), detail="; ".join(wrong))
        connection.close()
    return wrong


def _look(archive: Archive, *, without_secrets: bool) -> Secrets | None:
    """Refuse what cannot succeed; returns the secrets of the archive."""
    refuse_other_kind(archive.manifest)
    databases.refuse_newer(archive.manifest.migrations)
    if reason := databases.ours().why_not_empty():
        raise NotEmptyError(f"A backup is restored into an empty place only. {reason}")
    if databases.ours().member not in archive.manifest.members:
        raise DamagedError("The archive holds no database.")
    members = archive.manifest.members
    if without_secrets or sealed_secrets.MEMBER not in members:
        return None
    sealed = archive.read(sealed_secrets.MEMBER, max_bytes=sealed_secrets.MAX_BYTES)
    found = sealed_secrets.open_sealed(sealed, settings.BACKUP_PASSPHRASE, members)
    sealed_secrets.refuse_others(found)
    return found


def _restore_files(archive: Archive, tell: Tell) -> None:
    """Put files where they were kept. One that is there already must be the same."""
    names = [name for name in archive.manifest.members if name.startswith(f"{kept_files.PREFIX}/")]
    for name in names:
        place = kept_files.place_of(name)
        if place is None:
            tell(f"Passed over: {name}. Nobody here keeps such files any more.")
            continue
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        extracted = place.with_name(f".{place.name}.part")
        extracted.unlink(missing_ok=True)
        archive.extract(name, extracted)
        if place.exists() and place.read_bytes() != extracted.read_bytes():
            extracted.unlink()
            raise NotEmptyError(f"{place} is there already, with another content. Move it away.")
        put_in_place(extracted, place)
    if names:
        tell(f"{len(names)} files are back in their places.")


def _restore_secrets(found: Secrets | None, manifest: Manifest, tell: Tell) -> None:
    if found is not None:
        written = sealed_secrets.put_in_place(found)
        tell(f"Secrets written: {', '.join(written)}." if written else "The secrets are in place already.")
    elif sealed_secrets.MEMBER in manifest.members:
        tell("The secrets of the backup were left alone.")
    else:
        tell("The backup holds no secrets: those of the old installation have to be in place.")


def _verify(manifest: Manifest, found: Secrets, tell: Tell) -> list[str]:
    database, wrapper = databases.ours(), databases.opened()
    place = {"DATABASE_URL": databases.url_of(str(connection.settings_dict["NAME"]))}
    try:
        wrong = inspection.differences(database, Copy(place["DATABASE_URL"], wrapper), manifest)
    finally:
        wrapper.close()
    if not wrong:
        tell(f"All {manifest.total_rows} rows of {len(manifest.rows)} tables are there.")
    if databases.missing(manifest.migrations):
        tell("It is of an older version: `manage.py upgrade` is next. The audit log was not verified.")
        return wrong
    try:
        tell(inspection.manage("audit", "verify", environment={**sealed_secrets.environment(found), **place}))
    except CommandFailedError as error:
        wrong.append(f"{error} (Is SUTAZAI_AUDIT_KEY the one of the old installation?)")
    return wrong
