"""Who a process is, whether it still lives, and how it dies with its parent.

Only the standard library, so that `core.ops.tether` can start before anything is installed. Linux only.
"""

import ctypes
import functools
import multiprocessing
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, told apart from every other one that ever ran, also from a later one with the same id.

    Written `<host>/<pid>/<start>`; it fits a database column (see `MAX_LENGTH`).

    host: host name, boot and pid namespace; a process id means something only within it.
    start: clock ticks between the boot and the start of the process (proc(5), stat, field 22).
    """

    MAX_LENGTH = 128

    host: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.start}"

    @property
    def machine(self) -> str:
        """The host's name alone, for people."""
        return self.host.partition(":")[0]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises ValueError for anything else."""
        host, pid, start = text.rsplit("/", 2)
        return cls(host, int(pid), int(start))

    @classmethod
    def of(cls, pid: int) -> Self:
        """Identify a running process of this host. Raises ProcessLookupError if there is none."""
        start = _start_of(pid)
        if start is None:
            raise ProcessLookupError(f"No process {pid} runs here.")
        return cls(this_host(), pid, start)

    @classmethod
    def current(cls) -> Self:
        return cls.of(os.getpid())


@functools.cache
def this_host() -> str:
    """Name where process ids are comparable: `<host name>:<boot, 8 digits>:<pid namespace>`.

    A container restarted under the same host name has another pid namespace, a rebooted machine another boot.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
    pid_namespace = Path("/proc/self/ns/pid").stat().st_ino
    # Linux allows 64 characters; the cut keeps the promise of MAX_LENGTH elsewhere too.
    return f"{socket.gethostname()[:64]}:{boot}:{pid_namespace}"


def is_on_this_host(owner: str) -> bool:
    """Tell whether `is_alive` can judge this owner, a written `ProcessIdentity`."""
    try:
        return ProcessIdentity.parse(owner).host == this_host()
    except ValueError:
        return False


def is_alive(owner: str) -> bool:
    """Tell whether the process that wrote this identity still runs.

    False also for an owner elsewhere: ask `is_on_this_host` first, where that makes a difference.
    """
    try:
        identity = ProcessIdentity.parse(owner)
    except ValueError:
        return False
    return identity.host == this_host() and _start_of(identity.pid) == identity.start


def _start_of(pid: int) -> int | None:
    """Return when the process started, in ticks since the boot; None if it does not run (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses and may itself contain spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def die_with_parent(parent_pid: int | None = None, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent dies, so that no orphan keeps a port or a lease.

    parent_pid: who started this process; found out where multiprocessing did. The kernel tells of deaths from now on,
    so one that died before is noticed here. Call it in the main thread: the request belongs to the calling thread.
    """
    if parent_pid is None:
        parent = multiprocessing.parent_process()
        parent_pid = parent.pid if parent else None
    if parent_pid is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, by, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), by)
