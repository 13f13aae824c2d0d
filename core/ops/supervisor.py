"""Keeps a group of programs running: restart with backoff, one log, one stop or restart for all, no orphans."""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.ops import tether
from core.ops.joint_log import JointLog, LineSplitter

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30
HEALTHY_SECONDS = 10  # who lived this long starts again at once: it was no fault of its start
STOP_TIMEOUT_SECONDS = 10
# `make` passes a SIGTERM on that may have reached the whole group already: only a later Ctrl-C is a second one.
SECOND_SIGNAL_SECONDS = 0.5
# A restart takes one program after the other: all at once would leave those that serve no processor.
RENEW_PAUSE_SECONDS = 5
READY_CHECK_SECONDS = 0.25
PIPE_BYTES = 64 * 1024
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
RESTART_SIGNAL = signal.SIGUSR1
NAME = "sutazai"


@dataclass(frozen=True)
class Program:
    """One program of the group. Its command may start processes of its own.

    renew_signal: has it replace these one after the other; without one, it is ended and started again.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    renew_signal: signal.Signals | None = None


class Backoff:
    """How long to wait before the next start: nothing, then 0.5 s, doubled each time up to 30 s."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay_after(self, lived_seconds: float) -> float:
        if lived_seconds >= HEALTHY_SECONDS:
            self._next = 0.0
        delay = self._next
        self._next = min(max(2 * delay, FIRST_DELAY_SECONDS), MAX_DELAY_SECONDS)
        return delay


class Child:
    """A program's process, one after the other.

    start_at: when to start it; None while it runs or must not run again. kill_at: when it has had its time to end.
    renew_at: when to have other processes take the place of those that run.
    """

    def __init__(self, program: Program, working_directory: Path) -> None:
        self.program = program
        self.start_at: float | None = 0.0
        self.kill_at: float | None = None
        self.renew_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._working_directory = working_directory
        self._started_at = 0.0
        self._backoff = Backoff()

    def start(self) -> int:
        """Start the program; return the pipe with what it writes. Raises OSError."""
        self._started_at = time.monotonic()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            self.process = subprocess.Popen(
                tether.command(*self.program.command),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd=self._working_directory,
                env={**os.environ, **self.program.environment},
                process_group=0,  # Ctrl-C reaches the supervisor alone; the session stays the same
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self.start_at = None
        return reader

    def start_later(self) -> float:
        """Plan the next start; return the seconds until then."""
        now = time.monotonic()
        delay = self._backoff.delay_after(now - self._started_at)
        self.start_at = now + delay
        return delay

    def ended(self) -> int | None:
        """Collect the process if it ended; return its exit code once, negative for a signal."""
        if self.process is None or self.process.poll() is None:
            return None
        exit_code = self.process.returncode
        self.kill()  # what it may have left behind in its process group
        self.process = None
        self.kill_at = None
        return exit_code

    def terminate(self) -> None:
        self.start_at = None
        if self.process is not None:
            self.process.terminate()
            self.kill_at = time.monotonic() + STOP_TIMEOUT_SECONDS

    def renew(self) -> None:
        """Have other processes take the place of those that run."""
        if self.process is None:
            return
        if self.program.renew_signal is None:
            self.terminate()
        else:
            self.process.send_signal(self.program.renew_signal)

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Runs programs until it is told to stop by SIGINT, SIGTERM or SIGHUP. SIGUSR1 has it replace all processes.

    is_ready, on_ready: asked a few times a second from the start; once it is true, `on_ready` returns lines to log.

    Runs in the main thread and starts all programs there: the kernel ties them to the thread that did. They cannot
    outlive it, however it dies: see `core.ops.tether`.
    """

    def __init__(
        self,
        programs: list[Program],
        log: JointLog,
        *,
        working_directory: Path,
        is_ready: Callable[[], bool] = lambda: True,
        on_ready: Callable[[], list[str]] = list,
    ) -> None:
        self._children = [Child(program, working_directory) for program in programs]
        self._log = log
        self._is_ready = is_ready
        self._on_ready = on_ready
        self._ready_check_at: float | None = 0.0
        self._stopping_since: float | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Return after a stop, when every program has ended."""
        with self._selector, _signals() as wakeup:
            self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._take_signals(wakeup))
            while not self._is_over():
                self._start_due()
                self._renew_due()
                self._check_readiness()
                self._kill_late()
                self._wait(self._seconds_to_next_turn())
                self._collect()  # last: it may have been the end, and then nothing would wake us again
            while self._wait(0):  # what the programs wrote last
                pass
            self._say("Stopped.")

    def _wait(self, seconds: float | None) -> bool:
        """Wait for signals and output and handle them; return whether there were any."""
        events = self._selector.select(seconds)
        for key, _ in events:
            key.data()
        return bool(events)

    def _is_over(self) -> bool:
        return self._stopping_since is not None and all(child.process is None for child in self._children)

    def _collect(self) -> None:
        """Notice who ended, and plan its next start."""
        for child in self._children:
            exit_code = child.ended()
            if exit_code is None:
                continue
            if self._stopping_since is None:
                delay = child.start_later()
                self._say(f"{child.program.name} {describe(exit_code)}; starting it again {_in(delay)}")

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)

    def _start(self, child: Child) -> None:
        try:
            pipe = child.start()
        except OSError as error:  # no memory, no process table entry: may pass
            delay = child.start_later()
            self._say(f"{child.program.name} could not start ({error}); trying again {_in(delay)}")
            return
        splitter = LineSplitter()
        self._selector.register(pipe, selectors.EVENT_READ, lambda: self._take_output(child, pipe, splitter))

    def _take_output(self, child: Child, pipe: int, splitter: LineSplitter) -> None:
        """Log what a program wrote. The pipe ends when the last process that holds it does."""
        piece = os.read(pipe, PIPE_BYTES)
        for line in splitter.feed(piece) if piece else splitter.end():
            self._log.write(child.program.name, line)
        if not piece:
            self._selector.unregister(pipe)
            os.close(pipe)

    def _take_signals(self, wakeup: socket.socket) -> None:
        """React to signals; a child's end (SIGCHLD) needs no more than having woken us."""
        for number in wakeup.recv(PIPE_BYTES):
            if number in STOP_SIGNALS:
                self._stop(signal.Signals(number))
            elif number == RESTART_SIGNAL:
                self._restart()

    def _restart(self) -> None:
        if self._stopping_since is None:
            self._say(f"Replacing all processes, one after the other ({RESTART_SIGNAL.name}).")
            for number, child in enumerate(reversed(self._children)):
                child.renew_at = time.monotonic() + number * RENEW_PAUSE_SECONDS

    def _renew_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.renew_at is not None and child.renew_at <= now:
                child.renew_at = None
                child.renew()

    def _stop(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._stopping_since is None:
            self._say(f"Stopping ({number.name}). Ctrl-C again ends it at once.")
            self._stopping_since = now
            self._ready_check_at = None
            for child in self._children:
                child.renew_at = None
                child.terminate()
        elif number == signal.SIGINT and now - self._stopping_since >= SECOND_SIGNAL_SECONDS:
            for child in self._children:
                child.kill_at = now

    def _kill_late(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.kill_at is not None and child.kill_at <= now:
                child.kill_at = None
                if child.process is not None:
                    self._say(f"{child.program.name} did not stop; killed")
                    child.kill()

    def _check_readiness(self) -> None:
        now = time.monotonic()
        if self._ready_check_at is None or now < self._ready_check_at:
            return
        self._ready_check_at = now + READY_CHECK_SECONDS
        if self._is_ready():
            self._ready_check_at = None
            for line in self._on_ready():
                self._say(line)

    def _seconds_to_next_turn(self) -> float | None:
        """Sleep until something is due; without a limit where only signals and output can come."""
        moments = [self._ready_check_at]
        for child in self._children:
            moments += [child.start_at, child.kill_at, child.renew_at]
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _say(self, line: str) -> None:
        self._log.write(NAME, line)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Deliver the numbers of signals as bytes of a socket, so that one wait covers signals, output and time."""
    numbers = [*STOP_SIGNALS, RESTART_SIGNAL, signal.SIGCHLD]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup
        numbers.remove(signal.SIGHUP)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield receiver
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()


def describe(exit_code: int) -> str:
    """Say how a process ended; exit codes as subprocess gives them."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed by signal {-exit_code} ({signal.strsignal(-exit_code) or 'unknown'})"


def _in(seconds: float) -> str:
    return f"in {seconds:g} s" if seconds else "now"
