"""What is measured beside each other: the upstream itself, LiteLLM Proxy by two routes, and our gateway."""

import asyncio
import json
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.client import Client
from bench.gateway.double import TOKENS, WORD, DoubleProcess
from bench.gateway.processes import Parts, tree
from bench.group import Backends, Group, running_group
from bench.tasks import UnexpectedAnswerError
from tests.services import Server
from tests.services.server import accepts_connections

PATH = "/v1/chat/completions"
MODEL = "double"
# The executable in LiteLLM's own environment.
LITELLM_VARIABLE = "SUTAZAI_BENCH_LITELLM"
LITELLM_KEY = "sk-bench"
# What models are called that LiteLLM asks for by Ollama's own protocol.
BY_OLLAMA = "by-ollama-"
START_TIMEOUT_SECONDS = 90
POLL_SECONDS = 0.02
# Enough for every stream at a time: nobody waits in our queue, as nobody does elsewhere.
SLOTS = 1024
# Counted with every call, and never used up.
OUR_SETTINGS = {"SUTAZAI_TOKENS_PER_DAY": "1000000000000"}


class Target:
    """What is asked. prefix: what stands before models' names there. Subclasses tell which processes serve it."""

    def __init__(self, name: str, url: str, *, key: str = "none", prefix: str = "") -> None:
        self.name = name
        self.url = url
        self.key = key
        self._prefix = prefix

    def parts(self) -> Parts:
        """Its processes, by what they do; the first part serves the requests."""
        raise NotImplementedError

    def apart(self) -> Parts:
        """The servers that it needs besides, such as its database."""
        return {}

    def start(self) -> None:
        """Start it again, after `stop`."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def client(self, *, key: str = "", timeout_seconds: float = 60) -> Client:
        return Client(self.url, key=key or self.key, timeout_seconds=timeout_seconds)

    def body(self, prompt: str, *, knobs: str = "", **more: Any) -> dict[str, Any]:
        """Ask a model for an answer. knobs: how it answers, see `double`."""
        model = f"{self._prefix}{MODEL}" + (f":{knobs}" if knobs else "")
        return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


class Direct(Target):
    """The upstream, without anything between."""

    def __init__(self, double: DoubleProcess) -> None:
        super().__init__("directly", double.url)
        self._double = double

    def parts(self) -> Parts:
        return {"server": tree(self._double.process.pid)}


class LiteLLM(Server):
    """LiteLLM Proxy as quick as it gets: one worker, no database, no retries, no logs."""

    name = "litellm"
    system_user = pwd.getpwuid(os.geteuid()).pw_name

    def __init__(self, parent_folder: Path, executable: str, double: DoubleProcess, models: list[str]) -> None:
        super().__init__(parent_folder)
        self._executable = executable
        self._configuration = {
            "model_list": [model for name in models for model in _litellm_models(double.url, name)],
            "litellm_settings": {"num_retries": 0, "request_timeout": 600, "set_verbose": False, "drop_params": True},
            "router_settings": {"num_retries": 0},
            "general_settings": {"master_key": LITELLM_KEY},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        self._file.write_text(json.dumps(self._configuration))  # JSON is YAML

    def command(self) -> list[str]:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        return [self._executable, "--config", str(self._file), *address, "--num_workers", "1"]

    def environment(self) -> dict[str, str]:
        return {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def is_ready(self) -> bool:
        return accepts_connections(self.port)

    @property
    def _file(self) -> Path:
        return self.folder / "litellm.yaml"


def _litellm_models(url: str, name: str) -> list[dict[str, Any]]:
    """The upstream's model by both of its protocols."""
    by_openai = {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"}
    by_ollama = {"model": f"ollama_chat/{name}", "api_base": url}
    return [
        {"model_name": name, "litellm_params": by_openai},
        {"model_name": BY_OLLAMA + name, "litellm_params": by_ollama},
    ]


class Proxy(Target):
    """LiteLLM Proxy by one of its routes; all of them are one process."""

    def __init__(self, server: LiteLLM, route: str, prefix: str) -> None:
        super().__init__(f"LiteLLM, {route} route", server.url, key=LITELLM_KEY, prefix=prefix)
        self._server = server

    def parts(self) -> Parts:
        return {"server": tree(self._server.pid or 0)}

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class Ours(Target):
    """Our gateway's quick lane, with all that belongs to it."""

    def __init__(self, group: Group, backends: Backends) -> None:
        super().__init__(backends.name, group.url, key=group.key)
        self.group = group
        self._servers = backends.servers

    def parts(self) -> Parts:
        own = {role: list(map(psutil.Process, self.group.pids(role))) for role in ("web", "worker")}
        known = {process.pid for processes in own.values() for process in processes}
        return own | {"rest": [process for process in self.group.processes() if process.pid not in known]}

    def apart(self) -> Parts:
        return {name: tree(server.pid or 0) for name, server in self._servers.items()}

    def start(self) -> None:
        self.group.start()

    def stop(self) -> None:
        self.group.stop()


@contextmanager
def running_ours(backends: Backends, double: DoubleProcess) -> Iterator[Ours]:
    with running_group(backends, double, slots=SLOTS, settings=OUR_SETTINGS) as group:
        yield Ours(group, backends)


@contextmanager
def running_litellm(executable: str, double: DoubleProcess, models: list[str]) -> Iterator[list[Proxy]]:
    """Start LiteLLM Proxy; yields it by OpenAI's protocol and by Ollama's."""
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="sutazai-bench-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        server = LiteLLM(folder, executable, double, models)
        cleanup.callback(server.stop)
        server.prepare()
        server.start()
        server.wait_until_ready()
        yield [Proxy(server, "OpenAI", ""), Proxy(server, "Ollama", BY_OLLAMA)]


async def restart(target: Target) -> float:
    """Stop a target and start it again; returns the seconds from the command to the first answer to a call."""
    await asyncio.to_thread(target.stop)
    began = time.perf_counter()
    starting = asyncio.create_task(asyncio.to_thread(target.start))
    await first_answer(target)
    seconds = time.perf_counter() - began
    await starting
    return seconds


async def first_answer(target: Target) -> Mapping[str, str]:
    """Ask until there is a whole answer; returns its headers. Raises UnexpectedAnswerError when none comes."""
    body, told = target.body("first"), ""
    limit = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < limit:
        client = target.client()
        try:
            answer = await client.request("POST", PATH, body)
        except OSError as error:
            told = str(error)
        else:
            if answer.status == 200 and answer.body.count(WORD) == TOKENS:
                return answer.headers
            told = f"status {answer.status}: {answer.body[:500].decode(errors='replace')}"
        finally:
            client.close()
        await asyncio.sleep(POLL_SECONDS)
    raise UnexpectedAnswerError(f"{target.name} does not answer: {told}")
