"""The real group, once: started, wounded, stopped."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.ops.processes import ProcessIdentity, is_alive
from tests.services.server import free_port

PROGRAMS = ("granian", "worker", "beat")


class Up:
    """`manage.py up` with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")},
            "SUTAZAI_DATA_DIR": str(folder / "data"),
            "SUTAZAI_PORT": str(self.port),
            "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
        }
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.environment)

    def manage(self, *arguments: str) -> str:
        """Run a management command; returns what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout.strip()

    def ask(self, key: str, **body: str) -> dict[str, Any]:
        """Chat with the agent that answers whoever names none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/chat/",
            json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def command(self) -> list[str]:
        return [sys.executable, "manage.py", "up", "--stop-with-parent"]

    def try_another(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(), env=self.environment | environment, capture_output=True, text=True, check=False, timeout=60
        )

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def pids(self) -> dict[str, list[int]]:
        """Return the processes of each program, parents first."""
        pids: dict[str, list[int]] = {name: [] for name in PROGRAMS}
        for pid in _descendants_of(self.process.pid):
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            for name in PROGRAMS:
                if any(Path(argument).name == name for argument in arguments):
                    pids[name].append(pid)
        return pids


def _descendants_of(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _descendants_of(int(child))


@pytest.fixture
def up(tmp_path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    up.process.kill()
    up.process.wait()


def test_the_group_serves_heals_and_leaves_nothing_behind(up, wait_until):
    wait_until(lambda: up.says("SutazAI is ready at"), timeout_seconds=90)
    assert up.answers()
    assert up.says("Sign in as operator, password ")
    key = up.manage("create_api_key", "--user", "operator")
    answer = up.ask(key, message="hello")
    assert set(answer) == {"response", "model", "cached", "session", "task", "truncated", "degraded"}
    assert (answer["model"], answer["cached"], answer["truncated"], answer["degraded"]) == (
        "builtin",
        False,
        False,
        True,
    )

    # The first operator and the key are in the audit log, and sealed a moment later.
    wait_until(lambda: up.manage("audit", "verify") == "2 sealed entries are intact.", timeout_seconds=60)

    refused = up.try_another()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Port {up.port} on 127.0.0.1 cannot be used")
    refused = up.try_another(SUTAZAI_PORT=str(free_port()))
    assert refused.returncode == 1
    assert refused.stderr.startswith("SutazAI runs on")

    server_process = up.pids()["granian"][-1]
    os.kill(server_process, signal.SIGKILL)
    wait_until(lambda: up.says("web ended with exit code 1; starting it again now"))
    wait_until(up.answers, timeout_seconds=60)

    pids = up.pids()
    assert {name: len(found) for name, found in pids.items()} == {"granian": 2, "worker": 1, "beat": 1}
    owners = [str(ProcessIdentity.of(pid)) for found in pids.values() for pid in found]
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert not any(map(is_alive, owners))

    up.start()
    wait_until(lambda: up.says("SutazAI is ready at"), timeout_seconds=90)
    assert not up.says("password")  # the operator is there already, and so is everything else
    assert up.ask(key, message="hello again", session=answer["session"])["session"] == answer["session"]


def test_nothing_outlives_a_killed_group(up, wait_until):
    wait_until(lambda: len(up.pids()["granian"]) == 2 and up.answers(), timeout_seconds=90)
    owners = [str(ProcessIdentity.of(pid)) for found in up.pids().values() for pid in found]

    up.process.kill()

    wait_until(lambda: not any(map(is_alive, owners)))
    assert not up.answers()
