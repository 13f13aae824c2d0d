"""Ollama's generate. Numbers are those of the protocol's conformance cases."""

import json
from typing import Any

import pytest
from hypothesis import given

from agents.gateway.formats.ollama_generate import FORMAT, GenerateEncoder
from agents.gateway.formats.reading import CallRefused
from agents.ollama import protocol
from agents.ollama.types import ChatChunk
from tests.agents.gateway.formats.samples import (
    ANSWERS,
    IDENTITY,
    LOGPROBS,
    TOLD,
    TRUTH,
    UNHURRIED,
    answer,
    last,
    lines_of,
    streamed,
)


def refusal_of(**body: Any) -> CallRefused:
    with pytest.raises(CallRefused) as caught:
        FORMAT.parse({"model": "m", "prompt": "hello", **body})
    return caught.value


def encoder() -> GenerateEncoder:
    return GenerateEncoder(IDENTITY, {})


def test_case_09_no_model_is_a_model_that_is_not_found() -> None:
    with pytest.raises(CallRefused) as caught:
        FORMAT.parse({"prompt": "hello"})
    assert (caught.value.status, caught.value.detail) == (404, "model '' not found")


def test_everything_that_ollama_takes_is_passed_on() -> None:
    body = {
        "prompt": "def f(",
        "suffix": "return 1",
        "system": "Write code.",
        "template": "{{ .Prompt }}",
        "images": ["aGk="],
        "raw": False,
        "format": "json",
        "options": {"num_predict": 3},
        "keep_alive": -1,
        "think": False,
        "truncate": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    wanted = FORMAT.parse({"model": "agent:helper", "stream": False, "context": [], **body})
    assert wanted.call == {"operation": "generate", **body}
    assert (wanted.model, wanted.streams) == ("agent:helper", False)


def test_case_14_without_a_prompt_the_answer_is_one_object() -> None:
    wanted = FORMAT.parse({"model": "m"})
    assert wanted.call == {"operation": "generate", "prompt": ""}
    assert not wanted.streams


@pytest.mark.parametrize("other", [{"template": "x"}, {"system": "x"}, {"context": [1]}])
def test_raw_goes_with_no_template_system_or_context(other: dict[str, Any]) -> None:
    assert refusal_of(raw=True, **other).detail == "raw mode does not support template, system, or context"
    assert FORMAT.parse({"model": "m", "prompt": "x", "raw": True}).call["raw"] is True


def test_a_context_is_refused_and_not_forgotten() -> None:
    refusal = refusal_of(context=[1, 2])
    assert (refusal.status, refusal.param) == (400, "context")


@pytest.mark.parametrize("wrong", [{"prompt": ["x"]}, {"images": "aGk="}, {"images": [5]}, {"raw": 1}, {"suffix": {}}])
def test_a_wrong_field_is_named(wrong: dict[str, Any]) -> None:
    refusal = refusal_of(**wrong)
    assert refusal.status == 400
    assert refusal.param.startswith(next(iter(wrong)))


def test_a_stream_carries_responses() -> None:
    chunks = [ChatChunk(thinking="hm"), ChatChunk(text="Hi!", logprobs=LOGPROBS), *answer("x")]
    thought, text, plain, end = lines_of(streamed(encoder(), chunks))
    assert (thought["thinking"], thought["response"]) == ("hm", "")
    assert (text["response"], text["logprobs"]) == ("Hi!", list(LOGPROBS))
    head = {"model": "TinyLlama", "created_at": "2026-08-01T12:30:15.250000Z"}
    assert plain == head | {"response": "x", "done": False}
    assert (end["response"], end["done"], end["eval_count"], end["sutazai"]) == ("", True, 3, TOLD)


def test_a_whole_answer_is_one_object() -> None:
    value = json.loads(encoder().whole([ChatChunk(thinking="hm"), last("Hello")], TRUTH))
    assert (value["response"], value["thinking"], value["done"]) == ("Hello", "hm", True)


@UNHURRIED
@given(chunks=ANSWERS)
def test_streams_hold_the_whole_answer(chunks: list[ChatChunk]) -> None:
    data = streamed(encoder(), chunks)
    assert data.count(b"\n") == len(lines_of(data))
    reader = protocol.generate_stream()
    read = [*reader.feed(data), *reader.end()]
    assert "".join(chunk.text for chunk in read) == "".join(chunk.text for chunk in chunks)
    assert read[-1].prompt_tokens == 7
