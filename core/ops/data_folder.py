"""The data folder belongs to one group at a time, or to a command that must be alone."""

import fcntl
import sys
from typing import TextIO

from django.conf import settings


def owned(advice: str) -> TextIO:
    """Take the data folder, until the file is closed or we die. Raises SystemExit, with an advice, if it is taken."""
    folder = settings.DATA_DIR / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock: TextIO = (folder / "up.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        sys.exit(f"SutazAI runs on {settings.DATA_DIR} already. {advice}")
    return lock
