"""Folders whose files are worth keeping. What can be made again, or is only on its way, is none: caches, messages."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

PREFIX = "files"

_folders: dict[str, Callable[[], Path | None]] = {}


def register(name: str, folder: Callable[[], Path | None]) -> None:
    """Have the files below a folder be in every backup. name: stands in archives, never changes; None: there is none.

    The files must appear whole, under a name that does not begin with a dot or end with ".part".
    """
    _folders[name] = folder


def files() -> Iterator[tuple[str, Path]]:
    """Every file to keep, and its name in an archive; symbolic links are passed over."""
    for name, folder in _folders.items():
        root = folder()
        for place, _, names in os.walk(root) if root else ():
            for path in sorted(Path(place) / file for file in names):
                if path.is_file() and not path.is_symlink() and not _is_unfinished(path):
                    assert root is not None
                    yield f"{PREFIX}/{name}/{path.relative_to(root).as_posix()}", path


def place_of(member: str) -> Path | None:
    """Where a file of an archive belongs; None: nobody here keeps such files."""
    _, name, *parts = member.split("/")
    folder = _folders[name]() if name in _folders else None
    return folder.joinpath(*parts) if folder and parts else None


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".part"


# Entries of the audit log that were removed for their age stand there and nowhere else.
register("audit", lambda: settings.AUDIT_ARCHIVE)
