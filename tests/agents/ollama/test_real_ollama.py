"""A few questions to a real Ollama, where one is installed: they catch what our test server and client agree on
by mistake. No model is needed."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.ollama import errors
from agents.ollama.client import OllamaClient
from agents.ollama.types import ChatRequest, EmbedRequest, GenerateRequest, Message
from tests.pools import thread_pool
from tests.services.server import free_port

BINARY = shutil.which("ollama")
START_SECONDS = 30

pytestmark = pytest.mark.skipif(BINARY is None, reason="no `ollama` on PATH")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("ollama")
    port = free_port()
    process = _serve(home, port)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _serve(home: Path, port: int) -> "subprocess.Popen[bytes]":
    assert BINARY is not None
    own = {"HOME": str(home), "OLLAMA_MODELS": str(home / "models"), "OLLAMA_HOST": f"127.0.0.1:{port}"}
    environment = {"PATH": os.environ["PATH"]} | own
    return subprocess.Popen(
        [BINARY, "serve"], env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"ollama did not listen within {START_SECONDS} s")


@pytest.fixture
def client(url: str) -> Iterator[OllamaClient]:
    pool = thread_pool()
    yield OllamaClient(url, pool=pool)
    pool.close()


def test_it_tells_its_version_and_that_it_holds_nothing(client: OllamaClient) -> None:
    assert client.version()
    assert client.tags() == []
    assert client.ps() == []


def test_an_unknown_model_is_not_found(client: OllamaClient) -> None:
    for call in (
        lambda: list(client.chat(ChatRequest(model="absent", messages=(Message(role="user", content="hello"),)))),
        lambda: list(client.generate(GenerateRequest(model="absent", prompt="hello"))),
        lambda: client.embed(EmbedRequest(model="absent", inputs=("one",))),
        lambda: client.show("absent"),
        lambda: client.copy("absent", "second"),
        lambda: client.delete("absent"),
    ):
        with pytest.raises(errors.ModelNotFound, match="not found"):
            call()


def test_a_chat_without_a_model_is_refused(client: OllamaClient) -> None:
    with pytest.raises(errors.OllamaRejected):
        list(client.chat(ChatRequest(model="", messages=(Message(role="user", content="hello"),))))


def test_a_path_it_does_not_serve_is_no_ollama(url: str) -> None:
    with pytest.raises(errors.NotOllama):
        OllamaClient(f"{url}/nope").version()


def test_blobs_are_checked_against_their_digest(client: OllamaClient) -> None:
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert not client.has_blob(digest)
    with pytest.raises(errors.OllamaError):
        client.upload_blob(digest, [b"something else"])
    client.upload_blob(digest, [b"hel", b"lo"])
    assert client.has_blob(digest)
