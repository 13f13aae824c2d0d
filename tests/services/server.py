"""One private server: started on a free port with its own folder and user, awaited, stopped, killed."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

START_TIMEOUT_SECONDS = 90  # RabbitMQ on a busy machine
STOP_TIMEOUT_SECONDS = 20
# Below those that the system gives to connections and to whoever asks for any: what is free stays free a while.
PORTS = range(20_000, 32_000)


class ServerError(Exception):
    """A server did not start; the text ends with what it wrote."""


class Server:
    """Shape of every server: what to run, as whom, and how to see that it is ready.

    A server that was stopped or killed can be started again with its port and its data.
    """

    name: str
    system_user: str
    # Ends the server quickly and cleanly; the kernel sends it too, should we die.
    stop_signal = signal.SIGTERM

    def __init__(self, parent_folder: Path) -> None:
        self.port = free_port()
        self.folder = parent_folder / self.name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.system_user, self.system_user)

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def prepare(self) -> None:
        """Make what the server needs in its folder before its first start."""

    def is_ready(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start without waiting; `wait_until_ready` waits."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # The kernel stops the server if we die, however we die.
                ["setpriv", f"--pdeathsig={self.stop_signal.name}", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                process_group=0,  # Ctrl-C reaches us alone
                **self._identity(),
            )

    def wait_until_ready(self) -> None:
        """Raises ServerError if the server ends or takes too long."""
        assert self._process is not None, "start it first"
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server cleanly; kill it when that takes too long. Does nothing where it does not run."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the server and its helpers as a crash would. Does nothing where it does not run."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # it ended, and every helper with it
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def run(self, *command: str | Path) -> None:
        """Run a helper of the server, such as initdb, as the server's user. Raises ServerError."""
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self._environment(),
            **self._identity(),
        )
        if result.returncode != 0:
            raise ServerError(f"{self.name} could not be prepared:\n{result.stdout[-2000:]}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **self.environment()}

    def _identity(self) -> dict[str, object]:
        """Popen arguments for the server's own user; PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(self.system_user)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port at which nothing listens."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
