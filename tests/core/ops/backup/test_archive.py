"""An archive from anywhere is either what was written or refused; nothing in it leads anywhere else."""

import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.ops.backup import manifest as manifests
from core.ops.backup.archive import Archive, Writer
from core.ops.backup.errors import DamagedError
from core.ops.backup.manifest import Manifest, Member

CONTENTS = {"database.sqlite3.gz": b"database" * 300, "files/audit/one": b"one\n"}


def manifest(members: dict[str, Member]) -> Manifest:
    rows, migrations = {"core_user": 3}, {"core": ["0001_initial"]}
    return Manifest("1.0.0", datetime(2030, 1, 1, tzinfo=UTC), "sqlite", "3", 4096, rows, migrations, members, 0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole archive."""
    target = tmp_path / "archive.tar"
    with target.open("wb") as file:
        writer = Writer(file)
        for number, (name, content) in enumerate(CONTENTS.items()):
            (tmp_path / str(number)).write_bytes(content)
            writer.add(name, tmp_path / str(number))
        writer.finish(manifest(dict(writer.members)))
    return target


def read(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    with Archive.open(path) as archive:
        archive.check()
        return archive.manifest, {name: archive.read(name, max_bytes=10_000) for name in archive.manifest.members}


def test_what_was_written_is_read(path: Path) -> None:
    found, contents = read(path)
    assert contents == CONTENTS
    assert found.rows == {"core_user": 3}
    assert manifests.read(found.text().encode()) == found


def test_wherever_it_is_cut_off_it_is_refused(path: Path, tmp_path: Path) -> None:
    whole, cut = path.read_bytes(), tmp_path / "cut.tar"
    end = len(whole.rstrip(b"\0"))
    for length in range(0, end, 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read(cut)


def test_whichever_byte_is_changed_nothing_else_is_read(path: Path, tmp_path: Path) -> None:
    """What is changed between the files, where nobody looks, changes nothing."""
    whole, changed = path.read_bytes(), tmp_path / "changed.tar"
    expected, refused = read(path), 0
    for place in range(len(whole.rstrip(b"\0"))):
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            assert read(changed) == expected
        except DamagedError:
            refused += 1
    assert refused > len(CONTENTS["database.sqlite3.gz"])


def test_the_manifest_is_believed_as_little(path: Path, tmp_path: Path) -> None:
    """A digest that stands in it, and fits no content."""
    changed = tmp_path / "changed.tar"
    changed.write_bytes(path.read_bytes().replace(b"database" * 300, b"databasf" + b"database" * 299))
    with pytest.raises(DamagedError, match="checksum"):
        read(changed)


Add = Callable[[tarfile.TarFile], None]


def plain(name: str, content: bytes = b"x", **more: Any) -> Add:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for field, value in more.items():
            setattr(info, field, value)
        tar.addfile(info, io.BytesIO(content))

    return add


@pytest.mark.parametrize(
    "add",
    [
        plain("../outside"),
        plain("files/audit/../../../outside"),
        plain("/etc/cron.d/outside"),
        plain("files//audit/one"),
        plain("."),
        plain("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        plain("link", b"", type=tarfile.LNKTYPE, linkname="database.sqlite3.gz"),
        plain("fifo", b"", type=tarfile.FIFOTYPE),
        plain("device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        plain("folder", b"", type=tarfile.DIRTYPE),
        plain("sparse", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000000"}),
        plain("database.sqlite3.gz"),
        plain("not in the manifest"),
    ],
    ids=[
        "up",
        "inside up",
        "absolute",
        "twice /",
        ".",
        "symlink",
        "hard link",
        "fifo",
        "device",
        "folder",
        "sparse",
        "twice",
        "unknown",
    ],
)
def test_what_no_backup_holds_is_refused(path: Path, tmp_path: Path, add: Add) -> None:
    _, contents = read(path)
    hostile = tmp_path / "hostile.tar"
    with Archive.open(path) as archive, tarfile.open(hostile, "w") as tar:
        for name, content in contents.items():
            plain(name, content)(tar)
        add(tar)
        plain(manifests.NAME, archive.manifest.text().encode())(tar)
    with pytest.raises(DamagedError):
        read(hostile)


def test_a_file_is_extracted_for_its_owner_alone_and_never_over_another(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with Archive.open(path) as archive:
        archive.extract("files/audit/one", target)
        assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"one\n", 0o600)
        with pytest.raises(FileExistsError):
            archive.extract("files/audit/one", target)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            archive.extract("files/audit/one", tmp_path / "link")


def test_what_has_another_checksum_does_not_stay(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"one\n", b"two\n"))
    with Archive.open(path) as archive, pytest.raises(DamagedError):
        archive.extract("files/audit/one", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b\x08" + b"\0" * 600, b"\0" * 10240])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DamagedError):
        read(tmp_path / "file")


def facts(**changes: Any) -> bytes:
    """A manifest with such facts, whose own checksum is right."""
    changed = {**manifest({"database": Member(1, "0" * 64)}).facts(), **changes}
    return json.dumps({**changed, "sha256": manifests._digest(changed)}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        facts(format=2),
        facts(created_at="2030-01-01"),
        facts(rows={"core_user": -1}),
        facts(rows={"core_user": True}),
        facts(rows=[]),
        facts(migrations={"core": [1]}),
        facts(members={"database": {"bytes": 1, "sha256": "no"}}),
        facts(members={"database": {"bytes": "1", "sha256": "0" * 64}}),
        facts(version=None),
        facts().replace(b"1.0.0", b"1.0.1"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(text: bytes) -> None:
    with pytest.raises(DamagedError):
        manifests.read(text)


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with (tmp_path / "archive.tar").open("wb") as file, pytest.raises(OSError, match="symbolic"):
        Writer(file).add("files/audit/one", tmp_path / "link")
