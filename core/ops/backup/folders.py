"""Working folders that nobody else reads, and one worker at a time; what a killed one left goes at the next turn."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.ops.backup.errors import BusyError

PART = ".part-"
WAIT_SECONDS = 900.0  # a backup and a drill may be due at the same moment
POLL_SECONDS = 0.2


@contextmanager
def working_in(folder: Path, *, wait_seconds: float | None = None) -> Iterator[Path]:
    """Lend a new folder in `folder`, to one at a time, and remove it afterwards. Raises BusyError, OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _turn(folder, WAIT_SECONDS if wait_seconds is None else wait_seconds):
        for left in folder.glob(f"{PART}*"):
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=PART, dir=folder))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _turn(folder: Path, wait_seconds: float) -> Iterator[None]:
    """Wait for the folder's lock, which the kernel gives back when its holder dies."""
    with (folder / ".lock").open("a") as lock:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise BusyError(f"Another backup, restoration or drill works in {folder}.") from error
                time.sleep(POLL_SECONDS)
        yield


def put_in_place(file: Path, target: Path) -> None:
    """Give a finished file its name; it is there after the loss of power, too."""
    sync(file)
    file.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, be on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
