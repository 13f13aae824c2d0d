"""A whole program under load: on chosen backends, with one model node and an operator's key."""

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.ollama_server import OllamaTestProcess
from tests.program import ROOT, STOP_TIMEOUT_SECONDS, Program, wait_for
from tests.services import Server, running_services

OPERATOR = "operator"
# All load comes from one key; it is counted like any other, and never held back.
REQUESTS_PER_MINUTE = "10000000"


@dataclass(frozen=True)
class Backends:
    """Where a group keeps what it knows; `environment` says so to its processes.

    servers: by what they are called. folder: the data folder, where it must be a certain one.
    """

    name: str
    environment: Mapping[str, str]
    servers: Mapping[str, Server] = field(default_factory=dict)
    folder: Path | None = None


EMBEDDED = Backends("SQLite, embedded broker", {})


@contextmanager
def full_backends() -> Iterator[Backends]:
    """PostgreSQL, and Redis as broker and for wake-ups."""
    with running_services() as services:
        environment = {"DATABASE_URL": services.postgresql.url, "REDIS_URL": services.redis.url}
        yield Backends("PostgreSQL + Redis", environment, {"PostgreSQL": services.postgresql, "Redis": services.redis})


@contextmanager
def embedded_backends() -> Iterator[Backends]:
    """Nothing but files."""
    yield EMBEDDED


class Group(Program):
    """A program, and the key that all load comes with."""

    key = ""

    def __init__(self, folder: Path, backends: Backends, settings: Mapping[str, str]) -> None:
        common = {
            "SUTAZAI_OPERATOR_PASSWORD": secrets.token_urlsafe(16),
            "SUTAZAI_REQUESTS_PER_MINUTE": REQUESTS_PER_MINUTE,
        }
        super().__init__(folder, **common, **backends.environment, **settings)

    def pid(self, role: str) -> int:
        """The one process with this role; waits until it runs."""
        wait_for(lambda: self.pids(role), f"a {role} process runs")
        return self.pids(role)[0]

    @contextmanager
    def another_worker(self, **environment: str) -> Iterator[None]:
        """Run a second worker beside the group's own; it stops gracefully at the end."""
        with self._another("worker", "--hostname", "second@%h", environment=environment):
            yield

    @contextmanager
    def another_beat(self) -> Iterator[None]:
        """Run a second beat beside the group's own."""
        with self._another("beat", environment={}):
            yield

    @contextmanager
    def _another(self, role: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[None]:
        first = psutil.Process(self.pid(role))
        with self.log.open("ab") as log:
            second = subprocess.Popen(
                [*first.cmdline(), *arguments],
                cwd=ROOT,
                env={**first.environ(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            second.terminate()
            second.wait(STOP_TIMEOUT_SECONDS)


@contextmanager
def running_group(
    backends: Backends, ollama: OllamaTestProcess, *, slots: int, settings: Mapping[str, str] | None = None
) -> Iterator[Group]:
    """Start a group whose one model node is the test server, with an operator's key; stop it at the end."""
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="sutazai-bench-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        if backends.folder:
            (folder / "data").symlink_to(backends.folder)
        group = cleanup.enter_context(Group(folder, backends, {"SUTAZAI_NODE_SLOTS": str(slots), **(settings or {})}))
        group.manage("register_node", "--name", "test-server", "--url", ollama.url)
        group.key = group.manage("create_api_key", "--user", OPERATOR)
        yield group
