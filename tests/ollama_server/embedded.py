"""Ways to run the server: in this thread's loop, in a thread of a test, in a process of its own."""

import asyncio
import contextlib
import http.client
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.ollama_server.app import App
from tests.ollama_server.http import Connection

PATIENCE_SECONDS = 60.0  # on a busy machine
POLL_SECONDS = 0.005
BACKLOG = 2048


async def listen(app: App, host: str, port: int) -> asyncio.Server:
    """Open the server's socket; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(app.handle, app.connections), host, port, backlog=BACKLOG)


def allow_many_sockets() -> None:
    """Lift the soft limit of open files, which hundreds of streams exceed; processes that are started inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


class RemoteControl:
    """Asks a running server for its statistics and changes it."""

    url: str

    def stats(self) -> dict[str, Any]:
        """GET /__stats."""
        return self._call("GET", "/__stats")

    def control(self, **changes: Any) -> None:
        """POST /__control, for example control(faults=[{"knobs": "status503", "times": 2}])."""
        self._call("POST", "/__control", json.dumps(changes))

    def wait_for(
        self, condition: Callable[[dict[str, Any]], bool], *, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """Return the statistics as soon as they meet the condition; raises AssertionError after `seconds`."""
        limit = time.monotonic() + seconds
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            if time.monotonic() > limit:
                raise AssertionError(f"not within {seconds} s: {stats}")
            time.sleep(POLL_SECONDS)

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Connection": "close"})
            response = connection.getresponse()
            value: dict[str, Any] = json.load(response)
        if response.status != 200:
            raise RuntimeError(f"{path}: {value}")
        return value


class OllamaTestServer(RemoteControl):
    """The server in a thread of this process; arguments as for App."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, models: Any = None, **settings: Any) -> None:
        self._host = host
        self._port = port
        if models is not None:
            settings["models"] = tuple(models)
        self.app = App(**settings)
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ollama-test-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._is_ready.wait(PATIENCE_SECONDS):
            raise RuntimeError("the Ollama test server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)

    def break_off(self) -> None:
        """Break all connections, from any thread."""
        self._loop.call_soon_threadsafe(self._close_connections)

    def _close_connections(self) -> None:
        for connection in list(self.app.connections):
            connection.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await listen(self.app, self._host, self._port)
        self.port = port_of(server)
        self.url = f"http://{self._host}:{self.port}"
        self._is_ready.set()
        await self._stop.wait()
        server.close()
        self._close_connections()


class OllamaTestProcess(RemoteControl):
    """The server in a process of its own, on a free port, for benchmarks and chaos; arguments as for the command.

    One that was killed can be started again at its address; it has forgotten everything.
    """

    module = "tests.ollama_server"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self._wait()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-m", self.module, "--port", str(self._port), *self._arguments]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self._port = urlsplit(self.url).port or 0

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self._wait()

    def _wait(self) -> None:
        self.process.wait(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
