"""OpenAI's older completions."""

import json
from typing import Any

import pytest
from hypothesis import given

from agents.gateway.formats.base import Failure
from agents.gateway.formats.openai_completions import FORMAT, CompletionsEncoder
from agents.gateway.formats.reading import CallRefused
from agents.ollama.types import ChatChunk
from tests.agents.gateway.formats.samples import (
    ANSWERS,
    CREATED,
    IDENTITY,
    LOGPROBS,
    TASK_ID,
    TOLD,
    TRUTH,
    UNHURRIED,
    answer,
    events_of,
    last,
    streamed,
)

HEAD = {
    "id": f"cmpl-{TASK_ID.hex}",
    "object": "text_completion",
    "created": int(CREATED.timestamp()),
    "model": "TinyLlama",
    "system_fingerprint": "fp_ollama",
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def parse(**body: Any) -> Any:
    return FORMAT.parse({"model": "m", "prompt": "hello", **body})


def encoder(**shape: Any) -> CompletionsEncoder:
    return CompletionsEncoder(IDENTITY, shape)


def choice_of(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def test_a_request_becomes_ollamas() -> None:
    wanted = parse(prompt=["hello"], suffix="end", max_tokens=3, temperature=0, stop=["x"], logprobs=0, stream=True)
    assert wanted.call == {
        "operation": "generate",
        "prompt": "hello",
        "suffix": "end",
        "options": {"temperature": 0, "stop": ["x"], "num_predict": 3},
        "logprobs": True,
        "top_logprobs": 0,
    }
    assert wanted.streams
    assert parse().call == {"operation": "generate", "prompt": "hello"}


def test_no_model_is_a_model_that_is_not_found() -> None:
    with pytest.raises(CallRefused) as caught:
        FORMAT.parse({"prompt": "hello"})
    assert (caught.value.status, caught.value.detail) == (404, "model '' not found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1]]}, "prompt"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"suffix": 5}, "suffix"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(CallRefused) as caught:
        parse(**body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_stream_ends_with_its_reason_the_usage_and_done() -> None:
    chunks = [ChatChunk(thinking="hm"), *answer("Hel", "lo", reason="length")]
    assert events_of(streamed(encoder(include_usage=True), chunks)) == [
        {**HEAD, "choices": [choice_of("Hel")]},
        {**HEAD, "choices": [choice_of("lo")]},
        {**HEAD, "choices": [choice_of("", "length")], "sutazai": TOLD},
        {**HEAD, "choices": [], "usage": USAGE},
        "[DONE]",
    ]


def test_a_whole_answer_is_a_completion() -> None:
    value = json.loads(encoder().whole(answer("Hel", "lo"), TRUTH))
    assert value == {**HEAD, "choices": [choice_of("Hello", "stop")], "usage": USAGE, "sutazai": TOLD}


def test_the_prompt_is_repeated_if_that_is_wanted() -> None:
    shape = parse(echo=True).shape
    events = events_of(streamed(encoder(**shape), answer(" you")))
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["hello", " you", ""]
    assert json.loads(encoder(**shape).whole(answer(" you"), TRUTH))["choices"][0]["text"] == "hello you"


def test_logprobs_stand_side_by_side() -> None:
    chunks = [ChatChunk(text="Hi!", logprobs=LOGPROBS), last(".", logprobs=({"token": ".", "logprob": 0.0},))]
    first, end, _ = events_of(streamed(encoder(), chunks))
    assert first["choices"][0]["logprobs"] == {
        "tokens": ["Hi", "!"],
        "token_logprobs": [-0.1, -0.5],
        "top_logprobs": [{"Hi": -0.1}, {}],
        "text_offset": [0, 2],
    }
    assert end["choices"][0]["logprobs"]["text_offset"] == [3]
    whole = json.loads(encoder().whole(chunks, TRUTH))["choices"][0]["logprobs"]
    assert whole["text_offset"] == [0, 2, 3]


def test_a_failure_in_mid_stream_is_an_error_event_without_done() -> None:
    writer = encoder()
    data = writer.piece(ChatChunk(text="Hel")) + writer.failure(Failure(status=502, message="cut"))
    assert events_of(data)[-1]["error"]["message"] == "cut"


@UNHURRIED
@given(chunks=ANSWERS)
def test_a_stream_adds_up_to_the_whole(chunks: list[ChatChunk]) -> None:
    *events, done = events_of(streamed(encoder(), chunks))
    assert done == "[DONE]"
    (whole,) = json.loads(encoder().whole(chunks, TRUTH))["choices"]
    assert "".join(event["choices"][0]["text"] for event in events) == whole["text"]
    assert events[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
