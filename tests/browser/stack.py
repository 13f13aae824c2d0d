"""The whole program for browser tests and screenshots: `manage.py up` beside an Ollama test server.

Everything has a folder and ports of its own and ends with the `with` block.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests.ollama_server.embedded import OllamaTestProcess

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "browser-test-only"
READY_SECONDS = 60
STOP_SECONDS = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """A running program. url: where it answers; ollama: the model server behind it, with its controls."""

    def __init__(self, folder: Path, *models: str) -> None:
        self._folder = folder
        self._models = models
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "log.txt"

    def __enter__(self) -> Self:
        arguments = [part for name in self._models for part in ("--model", name)]
        self.ollama = OllamaTestProcess("--port", "0", *arguments).__enter__()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")},
            "SUTAZAI_DATA_DIR": str(self._folder / "data"),
            "SUTAZAI_PORT": self.url.rsplit(":", 1)[1],
            "SUTAZAI_OPERATOR_PASSWORD": PASSWORD,
            "OLLAMA_HOST": self.ollama.url,
            "DJANGO_SETTINGS_MODULE": "sutazai.settings",
        }
        for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
            self.environment.pop(name, None)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--stop-with-parent"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.ollama.__exit__(None, None, None)

    def manage(self, *arguments: str) -> str:
        """Run a management command in the program's environment; returns what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def run(self, module: str) -> None:
        """Run a module in the program's environment, for example to fill its database."""
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, env=self.environment, check=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, f"It did not start:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"It was not ready in time:\n{self.log.read_text()}"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Web answers and a worker has told that it lives."""
        try:
            ready = requests.get(f"{self.url}/health/ready", timeout=2).json()
        except (requests.RequestException, ValueError):
            return False
        services = ready.get("services", {})
        return all(services.get(name, {}).get("status") == "up" for name in ("database", "workers"))
