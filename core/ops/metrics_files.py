"""The files through which web, worker and beat share their metrics."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from prometheus_client import multiprocess

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = Path("/dev/shm")  # noqa: S108 - Linux keeps it in memory; the folder in there is for its owner alone


def start_anew(data_folder: Path) -> Path:
    """Return an empty folder: metrics count from the start of the group.

    It is in memory where there is some: processes map these files, and one that finds no room on a full disk is ended
    by the kernel.
    """
    for folder in (_in_memory(data_folder), data_folder / "run" / "metrics"):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=folder.is_relative_to(data_folder))
            return folder
    raise NotADirectoryError(f"{data_folder} takes no folder for metrics.")


def end(folder: Path) -> None:
    """Give the room back once the group has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def forget_the_dead(folder: Path) -> None:
    """Drop what dead processes said about the present; what they counted stays."""
    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            with suppress(FileNotFoundError):  # another process was first
                multiprocess.mark_process_dead(pid, os.fspath(folder))  # type: ignore[no-untyped-call]


def _in_memory(data_folder: Path) -> Path:
    """The same for each start of a group, so that one that was killed leaves nothing for ever."""
    name = hashlib.sha256(f"{os.getuid()} {data_folder.resolve()}".encode()).hexdigest()[:16]
    return MEMORY / f"sutazai-{name}"
