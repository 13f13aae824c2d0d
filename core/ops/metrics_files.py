"""The files through which web, worker and beat share their metrics."""

import os
import shutil
from pathlib import Path

from prometheus_client import multiprocess

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def start_anew(folder: Path) -> None:
    """Empty the folder: metrics count from the start of the group."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def forget_the_dead(folder: Path) -> None:
    """Drop what dead processes said about the present; what they counted stays."""
    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, os.fspath(folder))  # type: ignore[no-untyped-call]
