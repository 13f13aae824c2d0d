"""OpenAI's chat completions. Numbers are those of the protocol's conformance cases."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.formats.base import EVENTS, Failure
from agents.gateway.formats.openai_chat import FORMAT, ROLES, ChatEncoder
from agents.gateway.formats.reading import CallRefused
from agents.ollama.types import ChatChunk, ToolCall
from core.exceptions import Refused
from tests.agents.gateway.formats.samples import (
    ANSWERS,
    CREATED,
    IDENTITY,
    LOGPROBS,
    TASK_ID,
    TOLD,
    TRUTH,
    UNHURRIED,
    WEATHER,
    answer,
    events_of,
    last,
    streamed,
)

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
PNG = "data:image/png;base64,aGk="
HEAD = {
    "id": f"chatcmpl-{TASK_ID.hex}",
    "object": "chat.completion.chunk",
    "created": int(CREATED.timestamp()),
    "model": "TinyLlama",
    "system_fingerprint": "fp_ollama",
}


def parse(**body: Any) -> Any:
    return FORMAT.parse({"model": "m", "messages": HELLO, **body})


def refusal_of(**body: Any) -> CallRefused:
    with pytest.raises(CallRefused) as caught:
        parse(**body)
    return caught.value


def encoder(**shape: Any) -> ChatEncoder:
    return ChatEncoder(IDENTITY, shape)


def chunk_of(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


# --- requests -------------------------------------------------------------------------------------------------


def test_case_31_without_messages_it_is_an_invalid_request() -> None:
    for messages in ([], None):
        refusal = refusal_of(messages=messages)
        error = json.loads(FORMAT.dialect.error(Failure.of(refusal)))["error"]
        assert error == {
            "message": "[] is too short - 'messages'",
            "type": "invalid_request_error",
            "param": "messages",
            "code": None,
        }


def test_case_32_an_unknown_model_is_not_found() -> None:
    error = json.loads(FORMAT.dialect.error(FORMAT.not_found("absent")))["error"]
    assert (error["type"], error["message"]) == ("not_found_error", "model 'absent' not found")


def test_other_refusals_are_api_errors_and_keep_their_code() -> None:
    class QueueFull(Refused):
        status, code, title = 429, "queue-full", "The queue is full"

    error = json.loads(FORMAT.dialect.error(Failure.of(QueueFull())))["error"]
    assert error == {"message": "The queue is full", "type": "api_error", "param": None, "code": "queue-full"}


def test_what_was_left_out_is_left_out_so_that_the_models_own_defaults_hold() -> None:
    wanted = parse()
    assert wanted.call == {"operation": "chat", "messages": HELLO}
    assert (wanted.streams, wanted.ignored) == (False, ())


def test_a_model_is_required() -> None:
    refusal = refusal_of(model="")
    assert (refusal.status, refusal.detail) == (400, "model is required")


def test_options_become_ollamas() -> None:
    wanted = parse(
        temperature=0.5,
        top_p=0.9,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        stop="END",
        max_tokens=5,
        max_completion_tokens=7,
        user="u",
        metadata={"a": "b"},
        n=1,
    )
    assert wanted.call["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 1,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "stop": ["END"],
        "num_predict": 7,
    }


def test_each_limit_counts_alone_and_stops_may_be_a_list() -> None:
    assert parse(max_tokens=5).call["options"] == {"num_predict": 5}
    assert parse(max_completion_tokens=-1, stop=["a", "b"]).call["options"] == {"num_predict": -1, "stop": ["a", "b"]}
    assert "options" not in parse(stop=[], max_tokens=None).call


def test_what_changes_nothing_here_is_named() -> None:
    wanted = parse(logit_bias={"1": 5}, parallel_tool_calls=False, keep_alive=0, options={"num_ctx": 9}, store=True)
    assert set(wanted.ignored) == {"logit_bias", "parallel_tool_calls", "keep_alive", "options"}
    assert parse(logit_bias={}, parallel_tool_calls=True).ignored == ()


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("high", "high"), ("xhigh", "max"), ("max", "max")],
)
def test_effort_becomes_think(effort: str, think: bool | str) -> None:
    assert parse(reasoning_effort=effort).call["think"] == think
    assert parse(reasoning={"effort": effort}).call["think"] == think


def test_formats_become_ollamas() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert parse(response_format={"type": "json_object"}).call["format"] == "json"
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    assert parse(response_format=wanted).call["format"] == schema
    assert "format" not in parse(response_format={"type": "text"}).call


@pytest.mark.parametrize(("choice", "is_offered"), [(None, True), ("auto", True), ("none", False)])
def test_tools_are_offered_unless_none_may_be_called(choice: str | None, is_offered: bool) -> None:
    call = parse(tools=[TOOL], tool_choice=choice).call
    assert call.get("tools") == ([TOOL] if is_offered else None)


def test_roles_become_those_that_models_know() -> None:
    for role, expected in ROLES.items():
        assert parse(messages=[{"role": role, "content": "x"}]).call["messages"][0]["role"] == expected


def test_a_round_of_tools_becomes_ollamas() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}]
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls, "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "name": "now", "content": [{"type": "text", "text": "noon"}]},
    ]
    assert parse(messages=messages).call["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}}],
        },
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"},
        {"role": "tool", "content": "noon", "tool_name": "now", "tool_call_id": "c2"},
    ]


def test_parts_become_one_message() -> None:
    parts = [
        {"type": "text", "text": "what"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "image_url", "image_url": "data:;base64,aGk="},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "text", "text": "is it?"},
    ]
    (message,) = parse(messages=[{"role": "user", "content": parts}]).call["messages"]
    assert message == {"role": "user", "content": "what\nis it?", "images": ["aGk="] * 3}


def test_logprobs_are_passed_on() -> None:
    call = parse(logprobs=True, top_logprobs=2).call
    assert (call["logprobs"], call["top_logprobs"]) == (True, 2)


def _user(part: Any) -> list[Any]:
    return [{"role": "user", "content": [part]}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {"user_location": None}}, "web_search_options"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": _user({"type": "file", "file": {}})}, "messages[0].content[0].type"),
        ({"messages": _user({"type": "text", "text": 5})}, "messages[0].content[0].text"),
        ({"messages": _user({"type": "image_url"})}, "messages[0].content[0].image_url"),
        (
            {"messages": _user({"type": "image_url", "image_url": {"url": "http://a/b.png"}})},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": _user({"type": "image_url", "image_url": {"url": "data:text/html;base64,aGk="}})},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": _user({"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}})},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(**body)
    assert (refusal.status, refusal.param) == (400, param)


# --- answers --------------------------------------------------------------------------------------------------


def test_case_33_a_stream_has_one_role_a_finish_the_usage_and_done() -> None:
    writer = encoder(include_usage=True)
    data = streamed(writer, answer("Hel", "lo"))
    assert (writer.stream_type, writer.keep_alive[:1]) == (EVENTS, b":")
    assert events_of(data) == [
        chunk_of({"role": "assistant", "content": "Hel"}),
        chunk_of({"content": "lo"}),
        chunk_of({}, "stop", sutazai=TOLD),
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
        "[DONE]",
    ]


def test_the_usage_is_sent_only_if_it_was_asked_for() -> None:
    assert all("usage" not in event for event in events_of(streamed(encoder(), answer("x"))))


def test_an_empty_answer_still_has_its_role() -> None:
    assert events_of(streamed(encoder(), answer()))[0] == chunk_of({"role": "assistant", "content": ""})


def test_case_34_tool_calls_come_whole_with_text_for_arguments() -> None:
    twin = ToolCall("now", {}, id="call_abc")
    chunks = [ChatChunk(thinking="hm"), ChatChunk(tool_calls=(WEATHER,)), last(tool_calls=(twin,))]
    thought, first, second, finish, _ = events_of(streamed(encoder(), chunks))
    assert thought["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning": "hm"}
    function = {"name": "weather", "arguments": '{"city":"K\\u00f6ln"}'}
    assert first["choices"][0]["delta"] == {
        "content": "",
        "tool_calls": [{"id": "call_abc", "index": 0, "type": "function", "function": function}],
    }
    (call,) = second["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["id"], call["function"]["arguments"]) == (1, f"call_{TASK_ID.hex}_1", "{}")
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


def test_a_limit_is_told_even_after_a_tool_call() -> None:
    events = events_of(streamed(encoder(), [ChatChunk(tool_calls=(WEATHER,)), last(reason="length")]))
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_a_whole_answer_is_a_completion() -> None:
    chunks = [ChatChunk(thinking="hm"), ChatChunk(text="Hi!", logprobs=LOGPROBS), last(tool_calls=(WEATHER,))]
    value = json.loads(encoder().whole(chunks, TRUTH))
    (choice,) = value.pop("choices")
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert value == {**HEAD, "object": "chat.completion", "usage": usage, "sutazai": TOLD}
    assert (choice["finish_reason"], choice["index"]) == ("tool_calls", 0)
    message = choice["message"]
    assert (message["role"], message["content"], message["reasoning"]) == ("assistant", "Hi!", "hm")
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Köln"}
    assert choice["logprobs"] == LOGPROBS_RENDERED


LOGPROBS_RENDERED = {
    "content": [
        {
            "token": "Hi",
            "logprob": -0.1,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Hi", "logprob": -0.1, "bytes": None}],
        },
        {"token": "!", "logprob": -0.5, "bytes": None, "top_logprobs": []},
    ],
    "refusal": None,
}


def test_logprobs_stand_in_the_choice_of_their_text() -> None:
    first, *_ = events_of(streamed(encoder(), [ChatChunk(text="Hi!", logprobs=LOGPROBS), last()]))
    assert first["choices"][0]["logprobs"] == LOGPROBS_RENDERED
    lone, *_ = events_of(streamed(encoder(), [ChatChunk(logprobs=LOGPROBS), last()]))
    assert lone["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_logprobs_that_a_broken_server_made_up_do_no_harm() -> None:
    nonsense: Any = ("x", {"token": 5}, {"token": "a", "logprob": float("-inf"), "top_logprobs": [None]})
    first, *_ = events_of(streamed(encoder(), [ChatChunk(text="a", logprobs=nonsense), last()]))
    expected = {"token": "a", "logprob": None, "bytes": None, "top_logprobs": []}
    assert first["choices"][0]["logprobs"]["content"] == [expected]


def test_case_35_a_failure_in_mid_stream_is_an_error_event_without_done() -> None:
    writer = encoder()
    data = writer.piece(ChatChunk(text="Hel")) + writer.failure(Failure(status=502, message="cut", code="cut-stream"))
    error = {"message": "cut", "type": "api_error", "param": None, "code": "cut-stream"}
    assert events_of(data)[1:] == [{"error": error}]
    assert writer.is_over


@UNHURRIED
@given(chunks=ANSWERS, include_usage=st.booleans())
def test_case_37_a_stream_is_ascii_and_adds_up_to_the_whole(chunks: list[ChatChunk], include_usage: bool) -> None:
    *events, done = events_of(streamed(encoder(include_usage=include_usage), chunks))
    assert done == "[DONE]"
    whole = json.loads(encoder().whole(chunks, TRUTH))["choices"][0]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert ["role" in delta for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert "".join(delta.get("content", "") for delta in deltas) == whole["message"]["content"]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == whole["message"].get("reasoning", "")
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls == whole["message"].get("tool_calls", [])
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert len({call["id"] for call in calls}) == len(calls)
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + [whole["finish_reason"]]
