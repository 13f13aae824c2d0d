"""A whole group of processes, as `make run` starts it, with its own data folder, ports, servers and model node."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.ollama_server import OllamaTestProcess
from tests.services.server import free_port

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.05
OPERATOR = "operator"
# Nothing listens there: a real Ollama server on this machine stays out of the measurement.
NO_OLLAMA = "http://127.0.0.1:9"
# All load comes from one key; it is counted like any other, and never held back.
REQUESTS_PER_MINUTE = "10000000"
# What the environment of the caller must not decide.
FOREIGN_VARIABLES = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "OLLAMA_HOST", "SUTAZAI_ENV")


class GroupError(Exception):
    """The group did not start, did not stop, or left something behind; the text ends with its log."""


@dataclass(frozen=True)
class Backends:
    """Where a group keeps what it knows; `environment` says so to its processes."""

    name: str
    environment: Mapping[str, str]


EMBEDDED = Backends("SQLite, embedded broker", {})


def wait_for(condition: Callable[[], object], what: str, *, seconds: float) -> None:
    """Wait until a condition holds. Raises GroupError."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise GroupError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


class Group:
    """`manage.py up` and everything that it starts."""

    def __init__(self, folder: Path, backends: Backends, settings: Mapping[str, str]) -> None:
        self.backends = backends
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = ""
        self.environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES} | {
            "SUTAZAI_DATA_DIR": str(self.data_dir),
            "SUTAZAI_PORT": str(self.port),
            "SUTAZAI_OPERATOR_PASSWORD": secrets.token_urlsafe(16),
            "OLLAMA_HOST": NO_OLLAMA,
            "SUTAZAI_REQUESTS_PER_MINUTE": REQUESTS_PER_MINUTE,
            "PYTHONUNBUFFERED": "1",
            **backends.environment,
            **settings,
        }
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start everything and wait until it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--stop-with-parent"],  # we may be killed too
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that whatever stays behind can be found
            )
        self.wait_until_serving(START_TIMEOUT_SECONDS)
        wait_for(lambda: all(map(self.pids, ROLES)), "all processes run", seconds=START_TIMEOUT_SECONDS)

    def wait_until_serving(self, seconds: float) -> None:
        wait_for(self._is_serving, "the web process answers", seconds=seconds)

    def _is_serving(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise GroupError(f"the group ended with exit code {self._process.returncode}:\n{self.log_tail()}")
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Stop everything as Ctrl-C does. Raises GroupError when something stays behind."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._kill_session(process.pid)
            raise GroupError(f"the group did not stop within {STOP_TIMEOUT_SECONDS} s:\n{self.log_tail()}") from None
        if left := self._kill_session(process.pid):
            raise GroupError(f"the group left processes behind: {', '.join(left)}")

    def _kill_session(self, session: int) -> list[str]:
        """Kill what is left of the group's session; says what that was."""
        left = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline())[:100])
                    process.kill()
        return left

    def log_tail(self, characters: int = 4000) -> str:
        return self._log.read_text(errors="replace")[-characters:]

    def manage(self, *arguments: str) -> str:
        """Run a management command; returns what it printed. Raises GroupError."""
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            check=False,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            raise GroupError(f"manage.py {' '.join(arguments)} failed:\n{result.stderr[-2000:]}")
        return result.stdout.strip()

    # Processes ---------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Every process of the group, the one that supervises included."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def pids(self, role: str) -> list[int]:
        """Process ids by role, see ROLES."""
        return [process.pid for process in self.processes() if role_of(process) == role]

    def pid(self, role: str) -> int:
        """The one process with this role; waits until it runs."""
        wait_for(lambda: self.pids(role), f"a {role} process runs", seconds=START_TIMEOUT_SECONDS)
        return self.pids(role)[0]

    @contextmanager
    def another_worker(self) -> Iterator[None]:
        """Run a second worker beside the group's own; it stops gracefully at the end."""
        first = psutil.Process(self.pid("worker"))
        command, environment = [*first.cmdline(), "--hostname", "second@%h"], first.environ()
        with self._log.open("ab") as log:
            second = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            second.terminate()
            second.wait(STOP_TIMEOUT_SECONDS)


ROLES = ("web-master", "web", "worker", "beat")


def role_of(process: psutil.Process) -> str:
    """Tell what a process of the group does: one of ROLES, or "" for helpers."""
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


@contextmanager
def running_group(
    backends: Backends, ollama: OllamaTestProcess, *, slots: int, settings: Mapping[str, str] | None = None
) -> Iterator[Group]:
    """Start a group whose one model node is the test server, with an operator's key; stop it at the end."""
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="sutazai-bench-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        group = Group(folder, backends, {"SUTAZAI_NODE_SLOTS": str(slots), **(settings or {})})
        cleanup.callback(group.stop)
        group.start()
        group.manage("register_node", "--name", "test-server", "--url", ollama.url)
        group.key = group.manage("create_api_key", "--user", OPERATOR)
        yield group
