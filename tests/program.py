"""`manage.py up` as a program of its own, with everything that it starts."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.services.server import free_port

PROGRAMS = ("granian", "worker", "beat")


class Up:
    """`manage.py up` with a folder of its own. environment: settings besides those that every test needs."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")},
            "SUTAZAI_DATA_DIR": str(folder / "data"),
            "SUTAZAI_PORT": str(self.port),
            "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
            **environment,
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
