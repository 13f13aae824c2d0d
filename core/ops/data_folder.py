"""The data folder belongs to one group at a time, or to a command that must be alone."""

import fcntl
import os
import sys
from typing import TextIO

from django.conf import settings


def owned(advice: str, *, by_group: bool = False) -> TextIO:
    """Take the data folder, until the file is closed or we die. Raises SystemExit, with an advice, if it is taken.

    by_group: whether this process supervises a group, and takes its signals.
    """
    folder = settings.DATA_DIR / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock: TextIO = (folder / "up.lock").open("a+")
    if not _lock(lock):
        lock.close()
        sys.exit(f"SutazAI runs on {settings.DATA_DIR} already. {advice}")
    lock.truncate(0)
    if by_group:
        lock.write(str(os.getpid()))
        lock.flush()
    return lock


def group() -> int | None:
    """The process that supervises the group of the data folder; None where no group runs."""
    try:
        with (settings.DATA_DIR / "run" / "up.lock").open() as lock:
            pid = lock.read()
            return None if _lock(lock) or not pid else int(pid)
    except FileNotFoundError:
        return None


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
