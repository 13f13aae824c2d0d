"""What a fault asks of the machine itself: a disk that can be filled, a file that can be locked, a clock to move."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

# What is left beside the program's own files is filled in the end.
DISK_MIB = 128
CHUNKS = (2**20, 2**12)
MOVED_CLOCK = Path(__file__).with_name("moved_clock")
OFFSET = "BENCH_CLOCK_OFFSET"


class Unavailable(Exception):
    """The fault cannot be tried on this machine; the text says why."""


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a disk of its own, in memory. Raises Unavailable."""
    if os.geteuid() != 0:
        raise Unavailable("only root can mount a small disk")
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="sutazai-disk-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        mounted = _run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(folder))
        if mounted.returncode != 0:
            raise Unavailable(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        cleanup.callback(_run, "umount", "--lazy", str(folder))
        yield folder


def fill(disk: Path) -> Path:
    """Leave no room on a disk; returns the file that has it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in CHUNKS:
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:  # so much does not fit any more
                continue
    return filler


def hold_lock(database: Path, seconds: float) -> None:
    """Keep the one lock that writers of an SQLite file need."""
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("PRAGMA busy_timeout = 60000")
        holder.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        holder.execute("ROLLBACK")


class Clock:
    """The clock of processes that are started with its environment; it goes with the machine's until it is moved."""

    def __init__(self, folder: Path) -> None:
        """folder: where the clock is kept."""
        self._offset = folder / "clock-offset"
        self.move(0)
        self.environment = {"PYTHONPATH": str(MOVED_CLOCK), OFFSET: str(self._offset)}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The clock that processes of this environment have."""
        return cls(Path(environment[OFFSET]).parent)

    def move(self, hours: float) -> None:
        """Set it so many hours before or after the machine's."""
        writing = self._offset.with_suffix(".new")
        writing.write_text(f"{3600 * hours:+.0f}\n")
        writing.rename(self._offset)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
