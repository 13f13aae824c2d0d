"""Ollama's chat: requests are read by its rules, answers are written as it writes them. Numbers are those of the
protocol's conformance cases."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.formats.base import JSON, NDJSON, RESTARTED, Failure
from agents.gateway.formats.ollama_chat import FORMAT, ChatEncoder
from agents.gateway.formats.reading import CallRefused
from agents.ollama import protocol
from agents.ollama.types import LOAD_OPTIONS, ChatChunk, ChatRequest, Message, ToolCall
from tests.agents.gateway.formats.samples import (
    ANSWERS,
    CALLS,
    IDENTITY,
    LOGPROBS,
    TEXTS,
    TOLD,
    TRUTH,
    UNHURRIED,
    WEATHER,
    answer,
    last,
    lines_of,
    streamed,
)

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
AT = "2026-08-01T12:30:15.250000Z"


def call_of(**body: Any) -> dict[str, Any]:
    return FORMAT.parse({"model": "m", "messages": HELLO, **body}).call


def refusal_of(**body: Any) -> CallRefused:
    with pytest.raises(CallRefused) as caught:
        FORMAT.parse({"model": "m", "messages": HELLO, **body})
    return caught.value


def encoder() -> ChatEncoder:
    return ChatEncoder(IDENTITY, {})


# --- requests -------------------------------------------------------------------------------------------------


def test_case_08_a_model_is_required() -> None:
    with pytest.raises(CallRefused) as caught:
        FORMAT.parse({"messages": HELLO})
    assert (caught.value.status, caught.value.detail) == (400, "model is required")


def test_case_10_an_unknown_model_is_told_in_json() -> None:
    assert FORMAT.dialect.error(FORMAT.not_found("absent")) == b'{"error":"model \'absent\' not found"}'


def test_what_was_left_out_is_left_out() -> None:
    wanted = FORMAT.parse({"model": "TinyLlama", "messages": HELLO})
    assert wanted.call == {"operation": "chat", "messages": HELLO}
    assert (wanted.model, wanted.streams, wanted.ignored) == ("TinyLlama", True, ())


def test_case_14_without_messages_the_answer_is_one_object() -> None:
    wanted = FORMAT.parse({"model": "m", "messages": [], "keep_alive": 0})
    assert wanted.call == {"operation": "chat", "messages": [], "keep_alive": 0}
    assert not wanted.streams
    data = encoder().whole([ChatChunk(done=True, done_reason="unload")], TRUTH)
    assert json.loads(data)["done_reason"] == "unload"
    assert not data.endswith(b"\n")


def test_everything_that_ollama_takes_is_passed_on() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "USER", "content": "what is it?", "images": ["aGk="]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}],
            },
            {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"},
        ],
        "tools": [TOOL],
        "format": {"type": "object"},
        "options": {"temperature": 0.1, "stop": ["x"], "mirostat": 1, "seed": None},
        "keep_alive": "1h30m",
        "think": "high",
        "truncate": False,
        "logprobs": True,
        "top_logprobs": 20,
    }
    call = call_of(**body)
    messages = call.pop("messages")
    assert messages[1] == {"role": "user", "content": "what is it?", "images": ["aGk="]}
    assert messages[2]["tool_calls"] == [
        {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}}
    ]
    assert messages[3] == {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"}
    options = {"temperature": 0.1, "stop": ["x"], "mirostat": 1}
    del body["messages"]
    assert call == {**body, "operation": "chat", "options": options}


@UNHURRIED
@given(
    messages=st.lists(
        st.builds(
            Message,
            role=st.sampled_from(["system", "user", "assistant", "tool"]),
            content=TEXTS,
            thinking=TEXTS,
            images=st.lists(st.just("aGk="), max_size=2).map(tuple),
            tool_calls=st.lists(CALLS, max_size=2).map(tuple),
            tool_name=TEXTS,
        ),
        max_size=4,
    ),
    keep_alive=st.none() | st.integers(-1, 900) | st.sampled_from(["5m", "0", "-1s", "1.5h"]),
    think=st.none() | st.booleans() | st.sampled_from(["low", "medium", "high", "max"]),
    truncate=st.none() | st.booleans(),
)
def test_what_our_own_client_sends_arrives_unchanged(messages: list[Message], **fields: Any) -> None:
    body = protocol.chat_body(ChatRequest(model="m", messages=tuple(messages), **fields))
    wanted = FORMAT.parse(FORMAT.dialect.decode(protocol.encode(body)))
    assert wanted.call == {name: value for name, value in body.items() if name not in {"model", "stream"}} | {
        "operation": "chat"
    }


def test_developers_are_systems() -> None:
    assert call_of(messages=[{"role": "developer", "content": "x"}])["messages"][0]["role"] == "system"


@pytest.mark.parametrize("stream", [True, False, None])
def test_it_streams_unless_it_is_told_not_to(stream: bool | None) -> None:
    assert FORMAT.parse({"model": "m", "messages": HELLO, "stream": stream}).streams is (stream is not False)


@pytest.mark.parametrize(
    ("keep_alive", "text"),
    [
        ("300", 'time: missing unit in duration "300"'),
        ("5 minutes", 'time: invalid duration "5 minutes"'),
        ("", 'time: invalid duration ""'),
        (True, "keep_alive"),
        ([], "keep_alive"),
        ("1s" * 50, "time: invalid duration"),
    ],
)
def test_case_15_a_duration_needs_its_unit(keep_alive: Any, text: str) -> None:
    refusal = refusal_of(keep_alive=keep_alive)
    assert refusal.status == 400
    assert text in refusal.detail


@pytest.mark.parametrize("think", ["banana", 1, []])
def test_case_17_there_are_four_levels_of_thinking(think: Any) -> None:
    refusal = refusal_of(think=think)
    assert refusal.status == 400
    assert '"high", "medium", "low", "max", true, or false' in refusal.detail


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": {}}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": ["no base64"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"options": []}, "options"),
        ({"stream": "yes"}, "stream"),
        ({"model": "x" * 201}, "model"),
        ({"model": 5}, "model"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(**body)
    assert (refusal.status, refusal.param) == (400, param)


@pytest.mark.parametrize("wanted", [5, "yaml", ["json"], True])
def test_case_19_an_unknown_answer_format_is_500(wanted: Any) -> None:
    refusal = refusal_of(format=wanted)
    assert refusal.status == 500
    assert refusal.detail.startswith("invalid format: ")


@pytest.mark.parametrize("wanted", [None, ""])
def test_case_19_no_format_is_none(wanted: Any) -> None:
    assert "format" not in call_of(format=wanted)


@pytest.mark.parametrize("number", [21, -1])
def test_case_20_top_logprobs_end_at_20(number: int) -> None:
    refusal = refusal_of(logprobs=True, top_logprobs=number)
    assert (refusal.status, refusal.detail) == (400, "top_logprobs must be between 0 and 20")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"seed": True}, 'option "seed" must be of type integer'),
        ({"num_predict": 10**30}, 'option "num_predict" must be of type integer'),
        ({"num_ctx": "big"}, 'option "num_ctx" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
    ],
)
def test_case_21_an_option_of_the_wrong_type_is_500(options: Any, text: str) -> None:
    refusal = refusal_of(options=options)
    assert (refusal.status, refusal.detail) == (500, text)


def test_case_21_an_unknown_option_is_ollamas_to_ignore() -> None:
    assert call_of(options={"no_such_option": 1, "nor_this": {"a": [1]}})["options"] == {"no_such_option": 1}


def test_callers_do_not_have_models_loaded_anew() -> None:
    options = dict.fromkeys(LOAD_OPTIONS, 1) | {"use_mmap": True, "top_k": 3}
    wanted = FORMAT.parse({"model": "m", "messages": HELLO, "options": options, "shift": False})
    assert wanted.call["options"] == {"top_k": 3}
    assert set(wanted.ignored) == {f"options.{name}" for name in LOAD_OPTIONS} | {"shift"}


# --- answers --------------------------------------------------------------------------------------------------


def test_case_12_a_stream_has_one_line_that_is_done_and_it_is_the_last() -> None:
    data = streamed(encoder(), answer("Hel", "lo"))
    assert encoder().stream_type == NDJSON
    assert data.endswith(b"\n")
    head = {"model": "TinyLlama", "created_at": AT}
    assert lines_of(data) == [
        head | {"message": {"role": "assistant", "content": "Hel"}, "done": False},
        head | {"message": {"role": "assistant", "content": "lo"}, "done": False},
        head
        | {
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "total_duration": 2_500_000_000,
            "load_duration": 500_000_000,
            "prompt_eval_duration": 250_000_000,
            "eval_duration": 1_500_000_000,
            "prompt_eval_count": 7,
            "eval_count": 3,
            "sutazai": TOLD,
        },
    ]


def test_case_13_a_whole_answer_is_one_object_without_a_line_end() -> None:
    data = encoder().whole(answer("Hel", "lo"), TRUTH)
    assert b"\n" not in data
    value = json.loads(data)
    assert value["message"] == {"role": "assistant", "content": "Hello"}
    assert (value["done"], value["done_reason"], value["total_duration"]) == (True, "stop", 2_500_000_000)


def test_case_16_the_limit_is_told() -> None:
    value = json.loads(encoder().whole(answer("x", reason="length"), TRUTH))
    assert (value["done_reason"], value["eval_count"]) == ("length", 3)


def test_zeros_are_left_out() -> None:
    value = json.loads(encoder().whole([ChatChunk(done=True, done_reason="load")], TRUTH))
    del value["sutazai"]
    message = {"role": "assistant", "content": ""}
    head = {"model": "TinyLlama", "created_at": AT}
    assert value == head | {"message": message, "done": True, "done_reason": "load"}


def test_case_18_tool_calls_carry_objects_and_end_with_stop() -> None:
    chunks = [ChatChunk(thinking="hm"), last(tool_calls=(WEATHER, ToolCall("now", {}, index=1)))]
    thought, end = lines_of(streamed(encoder(), chunks))
    assert thought["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert end["message"]["tool_calls"] == [
        {"id": "call_abc", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}},
        {"function": {"index": 1, "name": "now", "arguments": {}}},
    ]
    assert end["done_reason"] == "stop"


def test_logprobs_stand_beside_the_message() -> None:
    chunks = [ChatChunk(text="Hi!", logprobs=LOGPROBS), last()]
    assert lines_of(streamed(encoder(), chunks))[0]["logprobs"] == list(LOGPROBS)
    assert json.loads(encoder().whole(chunks, TRUTH))["logprobs"] == list(LOGPROBS)


def test_case_23_a_failure_in_mid_stream_is_a_last_line() -> None:
    writer = encoder()
    data = writer.piece(ChatChunk(text="Hel")) + writer.failure(Failure(status=502, message="cut\u2028off"))
    assert writer.is_over
    before, error = lines_of(data)
    assert before["done"] is False
    assert error == {"error": "cut\u2028off"}


def test_case_24_an_answer_without_its_end_is_none() -> None:
    for chunks in ([], [ChatChunk(text="Hel")]):
        with pytest.raises(ValueError, match="no end"):
            encoder().whole(chunks, TRUTH)


def test_a_run_that_began_anew_ends_the_stream_only_if_something_was_sent() -> None:
    writer = encoder()
    assert (writer.piece(ChatChunk()), writer.restart(), writer.is_over) == (b"", b"", False)
    writer.piece(ChatChunk(text="Hel"))
    assert lines_of(writer.restart()) == [{"error": RESTARTED.message}]
    assert writer.is_over


def test_silences_stay_silent() -> None:
    assert encoder().keep_alive == b""
    assert JSON == "application/json"


@UNHURRIED
@given(chunks=ANSWERS)
def test_case_37_streams_are_ascii_lines_that_hold_the_whole_answer(chunks: list[ChatChunk]) -> None:
    data = streamed(encoder(), chunks)
    assert data.count(b"\n") == len(lines_of(data))
    reader = protocol.chat_stream()
    read = [*reader.feed(data), *reader.end()]
    assert [chunk.done for chunk in read] == [False] * (len(read) - 1) + [True]
    for name in ("text", "thinking"):
        expected = "".join(getattr(chunk, name) for chunk in chunks)
        assert "".join(getattr(chunk, name) for chunk in read) == expected
    assert [call for chunk in read for call in chunk.tool_calls] == [c for chunk in chunks for c in chunk.tool_calls]
    whole = json.loads(encoder().whole(chunks, TRUTH))
    assert whole["message"]["content"] == "".join(chunk.text for chunk in chunks)
