"""The upstream double answers the official clients as a model server does."""

import json
import socket
from collections.abc import Iterator

import ollama
import openai
import pytest
import requests

from bench.gateway.double import TOKENS, WORD, DoubleProcess, script

TEXT = WORD.decode() * TOKENS


@pytest.fixture(scope="module")
def double() -> Iterator[DoubleProcess]:
    with DoubleProcess(["double", "double:t3-d1"]) as process:
        yield process


@pytest.fixture
def compatible(double: DoubleProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{double.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def native(double: DoubleProcess) -> Iterator[ollama.Client]:
    with ollama.Client(host=double.url, trust_env=False) as client:
        yield client


def ask(text: str = "hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_it_answers_openai_whole_and_streamed(compatible: openai.OpenAI) -> None:
    whole = compatible.chat.completions.create(model="double", messages=ask())
    assert whole.choices[0].message.content == TEXT
    assert whole.usage.completion_tokens == TOKENS
    chunks = list(compatible.chat.completions.create(model="double:t3-d1", messages=ask(), stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == [WORD.decode()] * 3 + [None]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_an_openai_stream_tells_its_usage_to_who_asks(compatible: openai.OpenAI) -> None:
    options = {"include_usage": True}
    chunks = list(
        compatible.chat.completions.create(model="double:t3-d1", messages=ask(), stream=True, stream_options=options)
    )
    assert chunks[-1].usage.completion_tokens == 3
    assert not chunks[-1].choices


def test_it_answers_ollama_whole_and_streamed(native: ollama.Client) -> None:
    whole = native.chat("double", ask())
    assert (whole.message.content, whole.eval_count, whole.done) == (TEXT, TOKENS, True)
    pieces = list(native.chat("double:t3-d1", ask(), stream=True))
    assert [piece.message.content for piece in pieces] == [WORD.decode()] * 3 + [""]
    assert [piece.done for piece in pieces] == [False] * 3 + [True]


def test_it_tells_what_it_has(native: ollama.Client, double: DoubleProcess) -> None:
    assert [model.model for model in native.list().models] == ["double:latest", "double:t3-d1"]
    assert native.show("double").capabilities == ["completion"]
    assert not native.ps().models
    assert len(native.embed("double", ["one", "two"]).embeddings) == 2
    assert requests.get(f"{double.url}/api/version", timeout=10).json()["version"]
    assert requests.get(f"{double.url}/api/blobs", timeout=10).status_code == 404
    with pytest.raises(ollama.ResponseError, match="model 'double:t9' not found"):
        native.chat("double:t9", ask())


def test_it_counts_calls_of_models_and_nothing_else(native: ollama.Client, double: DoubleProcess) -> None:
    calls = double.calls
    native.chat("double", ask())
    native.embed("double", "text")
    native.list()
    assert double.calls == calls + 2


def test_a_request_may_come_in_pieces(double: DoubleProcess) -> None:
    body = json.dumps({"model": "double", "messages": ask(), "stream": False}).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: double\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    request, port = head + body, int(double.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 7):
            connection.sendall(request[start : start + 7])
        assert connection.recv(65536).count(WORD) == TOKENS


def test_the_tag_sets_tokens_and_pace() -> None:
    spoken = script("/api/chat", "double:t3-f200-d50", has_usage=False)
    assert len(spoken.tokens) == 3
    assert spoken.seconds == pytest.approx(0.3)
    assert script("/api/chat", "double:latest", has_usage=False).seconds == 0
