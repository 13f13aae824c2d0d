"""The whole program, `manage.py up`, for whoever meets it from outside: tests, screenshots, measurements."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests

from tests.services.server import free_port

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("web-master", "web", "worker", "beat")
# For what must come, and comes within seconds where nothing else runs: only a failure takes so long on a busy machine.
PATIENCE_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.05


class ProgramError(Exception):
    """The program did not start, did not stop, or left something behind; the text ends with its log."""


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds. Raises ProgramError."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise ProgramError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


@cache
def migrated() -> Path:
    """An SQLite file with all tables and nothing in them, made once in a process: that takes seconds."""
    folder = tempfile.mkdtemp(prefix="sutazai-tables-")
    atexit.register(shutil.rmtree, folder)
    environment = {"PATH": os.environ["PATH"], "SUTAZAI_DATA_DIR": folder, "SUTAZAI_LOG_LEVEL": "ERROR"}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    return Path(folder) / "db.sqlite3"


class Program:
    """`manage.py up` and everything that it starts, with a folder and a port of its own; ends with the `with` block.

    is_bare: begin without anything, as on a new machine, instead of with an SQLite file that has its tables already.
    settings: environment besides what everybody needs. Of the caller's own nothing else decides anything.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, *, is_bare: bool = False, **settings: str) -> None:
        self.data_dir = folder / "data"
        self._is_bare = is_bare
        self.log = folder / "log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")},
            "DJANGO_SETTINGS_MODULE": "sutazai.settings",
            "SUTAZAI_DATA_DIR": str(self.data_dir),
            "SUTAZAI_PORT": str(self.port),
            "OLLAMA_HOST": f"127.0.0.1:{free_port()}",  # nobody, unless the settings say otherwise
            **settings,
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, with a new log, and wait until it serves. Raises ProgramError."""
        if not (self._is_bare or "DATABASE_URL" in self.environment or self.data_dir.exists()):
            self.data_dir.mkdir(parents=True)
            shutil.copy(migrated(), self.data_dir)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that whatever stays behind can be found
            )
        wait_for(self.is_ready, "everything runs and answers")

    def stop(self) -> None:
        """Stop everything as Ctrl-C does. Raises ProgramError when something stays behind."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._kill_session()
            raise ProgramError(f"it did not stop within {STOP_TIMEOUT_SECONDS} s:\n{self.log_tail()}") from None
        if left := self._kill_session():
            raise ProgramError(f"it left processes behind: {', '.join(left)}")

    def _command(self) -> list[str]:
        return [sys.executable, "manage.py", "up", "--stop-with-parent"]  # we may be killed too

    def is_ready(self) -> bool:
        """Every process runs, web answers, and a worker has told that it lives."""
        if self.process.poll() is not None:
            raise ProgramError(f"it ended with exit code {self.process.returncode}:\n{self.log_tail()}")
        try:
            answer = requests.get(f"{self.url}/health/ready", timeout=2)
            workers = answer.json().get("services", {}).get("workers", {})
        except requests.RequestException:
            return False
        return answer.ok and workers.get("status") == "up" and all(map(self.pids, ROLES))

    def _kill_session(self) -> list[str]:
        """Kill what is left of the program; says what that was."""
        left = self.left_behind()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return [str(process) for process in left]

    # What it says ------------------------------------------------------------------------------------------------

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def log_tail(self, characters: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-characters:]

    # Commands beside it ------------------------------------------------------------------------------------------

    def manage(self, *arguments: str) -> str:
        """Run a management command; returns what it printed. Raises ProgramError."""
        return self._run("manage.py", *arguments)

    def run(self, module: str, *arguments: str) -> str:
        """Run a module, for example to fill the database; returns what it printed. Raises ProgramError."""
        return self._run("-m", module, *arguments)

    def _run(self, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise ProgramError(f"{' '.join(arguments)} failed:\n{result.stderr[-2000:]}")
        return result.stdout.strip()

    def try_another(self, **settings: str) -> subprocess.CompletedProcess[str]:
        """Start a second one in the place of this one, but for these settings; returns how it ended."""
        return subprocess.run(
            self._command(),
            cwd=ROOT,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    # Processes ---------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Every process of the program, the one that supervises included."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def pids(self, role: str) -> list[int]:
        """Process ids by role, see ROLES."""
        return [process.pid for process in self.processes() if role_of(process) == role]

    def left_behind(self) -> list[psutil.Process]:
        """What runs of the program, whether or not the one that supervises still does."""
        left = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
        return left


def role_of(process: psutil.Process) -> str:
    """Tell what a process of the program does: one of ROLES, or "" for helpers."""
    try:
        command = process.cmdline()
        parent = process.parent()
        parent_command = parent.cmdline() if parent else []
    except psutil.Error:
        return ""
    names = {Path(part).name for part in command[:3]}
    if "core.ops.tether" in command:  # not yet what it will become
        return ""
    if "granian" in names:
        return "web" if "granian" in {Path(part).name for part in parent_command[:3]} else "web-master"
    if any("multiprocessing.spawn" in part for part in command):
        return "web" if any(Path(part).name == "granian" for part in parent_command[:3]) else ""
    if "celery" in names:
        return next((role for role in ("worker", "beat") if role in command), "")
    return ""
