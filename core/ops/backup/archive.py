"""The file that a backup is: a tar of the database, files, encrypted secrets, and at its end the manifest.

Whoever reads one trusts nothing in it: only plain files, with names that lead nowhere else, of the size and with the
checksum that the manifest tells, are ever written anywhere. So nothing here uses tarfile's own extraction.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Self

from core.ops.backup import manifest as manifests
from core.ops.backup.errors import DamagedError
from core.ops.backup.manifest import Manifest, Member

BLOCK = 2**20
PLAIN = {tarfile.REGTYPE, tarfile.AREGTYPE}
MAX_MEMBERS = 1_000_000


class Writer:
    """Writes an archive, member by member; `finish` makes it one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see finish
        self.members: dict[str, Member] = {}

    def add(self, name: str, path: Path) -> None:
        """Add a plain file, as it is now; symbolic links are not followed. Raises OSError."""
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(opened, "rb") as file:
            self._add(name, file, os.fstat(opened).st_size)

    def finish(self, manifest: Manifest) -> None:
        text = manifest.text().encode()
        self._add(manifests.NAME, io.BytesIO(text), len(text))
        self._tar.close()

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        reader = _Digesting(file)
        self._tar.addfile(info, reader)
        self.members[name] = Member(size, reader.digest.hexdigest())


class Archive:
    """An archive that somebody gave us. Raises DamagedError where it is not as it says."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._infos = _infos(tar)
        self.manifest = self._read_manifest()
        found = {name: info.size for name, info in self._infos.items() if name != manifests.NAME}
        if found != {name: member.bytes for name, member in self.manifest.members.items()}:
            raise DamagedError("The archive does not hold the files that it says it holds.")

    def _read_manifest(self) -> Manifest:
        names = list(self._infos)
        if not names or names[-1] != manifests.NAME:
            raise DamagedError("The archive ends before its end: it was cut off, or is no backup of this program.")
        size = self._infos[manifests.NAME].size
        if size > manifests.MAX_BYTES:
            raise DamagedError("What the archive says about itself is too long.")
        return manifests.read(b"".join(self._blocks(manifests.NAME)))

    def check(self) -> None:
        """Read everything, and compare it with its checksums."""
        for name in self.manifest.members:
            self._copy(name, len)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small member."""
        if self.manifest.members[name].bytes > max_bytes:
            raise DamagedError(f"{name} is too long.")
        blocks: list[bytes] = []
        self._copy(name, blocks.append)
        return b"".join(blocks)

    def extract(self, name: str, target: Path) -> None:
        """Write a member to a new file, for its owner alone; what is wrong does not stay. Raises OSError too."""
        opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                self._copy(name, file.write)
        except BaseException:
            target.unlink()
            raise

    def _copy(self, name: str, write: Callable[[bytes], object]) -> None:
        digest = hashlib.sha256()
        for block in self._blocks(name):
            digest.update(block)
            write(block)
        if digest.hexdigest() != self.manifest.members[name].sha256:
            raise DamagedError(f"{name} is not what was written: its checksum is another.")

    def _blocks(self, name: str) -> Iterator[bytes]:
        with _as_damage():
            file = self._tar.extractfile(self._infos[name])
            assert file is not None  # it is a plain file
            while block := file.read(BLOCK):
                yield block

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Raises DamagedError, OSError."""
        with path.open("rb") as file:
            with _as_damage():
                tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closed with the file
                archive = cls(tar)
            yield archive


class _Digesting:
    """A file that is read, and what was read digested."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


@contextmanager
def _as_damage() -> Iterator[None]:
    """tarfile raises several things for what is no tar; what the disk does not give stays an OSError."""
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedError("The archive is cut off or damaged, or is no backup of this program.") from error


def _infos(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for info in tar:
        if info.type not in PLAIN or info.sparse or not is_inside(info.name) or info.name in found:
            raise DamagedError(f"The archive holds {info.name[:200]!r}, which no backup does.")
        found[info.name] = info
        if len(found) > MAX_MEMBERS:
            raise DamagedError("The archive holds too many files.")
    return found


def is_inside(name: str) -> bool:
    """Tell whether a name leads to a place below where one is, written in the one way that we write it."""
    parts = PurePosixPath(name).parts
    return bool(parts) and "/".join(parts) == name and not {"/", "..", "."} & set(parts)
