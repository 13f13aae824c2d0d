"""Making a backup: one archive, whole and for its owner's eyes alone, or none."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from core.ops.backup import databases, kept_files, sealed_secrets
from core.ops.backup.archive import Writer
from core.ops.backup.errors import BackupError
from core.ops.backup.folders import put_in_place, working_in
from core.ops.backup.manifest import Manifest

_NAME = re.compile(r"sutazai-\d{8}T\d{6}Z-[0-9a-f]{6}\.tar")


@dataclass(frozen=True)
class Made:
    """A new archive."""

    path: Path
    size_bytes: int
    manifest: Manifest


def make() -> Made:
    """Back everything up. Raises BackupError; then there is no new archive."""
    started, created_at = time.monotonic(), datetime.now(UTC)
    name = f"sutazai-{created_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.tar"
    try:
        with working_in(settings.BACKUP_DIR) as part:
            manifest = _write(part / name, started, created_at)
            put_in_place(part / name, settings.BACKUP_DIR / name)
    except OSError as error:
        raise BackupError(
            f"The backup cannot be written to {settings.BACKUP_DIR}: {error.strerror or error}."
        ) from error
    path = settings.BACKUP_DIR / name
    return Made(path, path.stat().st_size, manifest)


def archives() -> list[Path]:
    """Every archive in the folder, by the names that `make` gives, the newest first."""
    return sorted(_archives(), key=lambda path: path.name, reverse=True)


def _archives() -> Iterator[Path]:
    if settings.BACKUP_DIR.is_dir():
        for path in settings.BACKUP_DIR.iterdir():
            if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                yield path


def _write(path: Path, started: float, created_at: datetime) -> Manifest:
    database = databases.ours()
    dump = database.dump(path.parent)
    path.touch(mode=0o600)
    with path.open("wb") as file:
        archive = Writer(file)
        archive.add(database.member, dump.file)
        for name, kept in kept_files.files():
            archive.add(name, kept)
        if settings.BACKUP_PASSPHRASE:
            sealed = path.with_name(sealed_secrets.MEMBER)
            sealed.write_bytes(sealed_secrets.seal(settings.BACKUP_PASSPHRASE, archive.members))
            archive.add(sealed_secrets.MEMBER, sealed)
        manifest = Manifest(
            version=settings.VERSION,
            created_at=created_at,
            vendor=database.vendor,
            server=dump.server,
            database_bytes=dump.bytes,
            rows=dump.rows,
            migrations=dump.migrations,
            members=dict(archive.members),
            duration_seconds=round(time.monotonic() - started, 3),
        )
        archive.finish(manifest)
    return manifest
