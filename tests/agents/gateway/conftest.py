"""The whole program with its gateway, beside an Ollama test server: once with the quick lane, once with workers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ollama
import openai
import pytest
import requests

from tests.ollama_server.embedded import OllamaTestProcess
from tests.program import Program

MODELS = ("double", "tinyllama", "embedder")


@dataclass(frozen=True)
class Gateway:
    """A running program. server: the model server behind it, with its controls. key: an operator's."""

    program: Program
    server: OllamaTestProcess
    lane: str
    key: str
    openai: openai.OpenAI
    ollama: ollama.Client

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request with JSON, or with bytes as they are."""
        sent = {"Authorization": f"Bearer {self.key if key is None else key}", **(headers or {})}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.request(method, self.program.url + path, headers=sent, timeout=30, **content)


@pytest.fixture(scope="module", params=["quick", "celery"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, lane = tmp_path_factory.mktemp("gateway"), request.param
    arguments = [part for name in MODELS for part in ("--model", name)]
    with (
        OllamaTestProcess("--port", "0", "--parallel", "8", *arguments) as server,
        Program(folder, OLLAMA_HOST=server.url, SUTAZAI_GATEWAY_LANE=lane, SUTAZAI_NODE_SLOTS="8") as program,
    ):
        key = program.manage("create_api_key", "--user", "operator")
        headers = {"Authorization": f"Bearer {key}"}
        with (
            openai.OpenAI(base_url=f"{program.url}/v1", api_key=key, max_retries=0) as compatible,
            ollama.Client(host=f"{program.url}/ollama", headers=headers, trust_env=False) as native,
        ):
            yield Gateway(program, server, lane, key, compatible, native)
