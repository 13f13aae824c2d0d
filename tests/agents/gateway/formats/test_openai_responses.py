"""OpenAI's Responses: the conversation that comes in items, the object, and a stream that can be resumed."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.formats.base import RESTARTED, Failure, Truth, Wanted
from agents.gateway.formats.openai_responses import (
    FORMAT,
    STATUS_OF_TASK,
    ResponsesEncoder,
    Retrieval,
    parse_retrieval,
    task_id,
)
from agents.gateway.formats.reading import CallRefused
from agents.models import AgentTask
from agents.ollama.types import ChatChunk, ToolCall
from tests.agents.gateway.formats.samples import (
    ANSWERS,
    CHUNKS,
    CREATED,
    ENDS,
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

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "d",
    "parameters": {"type": "object"},
    "strict": True,
}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Köln"}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
NATIVE_CALL = {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}}


def parse(**body: Any) -> Wanted:
    return FORMAT.parse({"model": "m", "input": "hello", **body})


def messages_of(*items: Any, **body: Any) -> list[Any]:
    return list(parse(input=list(items), **body).call["messages"])


def encoder(*, after: int | None = None, **shape: Any) -> ResponsesEncoder:
    return ResponsesEncoder(IDENTITY, shape, after=after)


def types_of(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# --- requests -------------------------------------------------------------------------------------------------


def test_a_text_is_a_message_of_the_user() -> None:
    wanted = parse()
    assert wanted.call == {"operation": "chat", "messages": [{"role": "user", "content": "hello"}]}
    assert (wanted.streams, wanted.is_background, wanted.shape, wanted.ignored) == (False, False, {}, ())


def test_everything_that_can_be_had_is_passed_on() -> None:
    schema = {"type": "object"}
    text = {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": schema}, "verbosity": "low"}
    body: dict[str, Any] = {
        "instructions": "Be brief.",
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "text": text,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 9,
        "truncation": "disabled",
        "reasoning": {"effort": "minimal", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 2,
        "metadata": {"a": "b"},
        "store": True,
        "background": True,
        "stream": True,
        "user": "u",
    }
    wanted = parse(**body)
    assert wanted.call == {
        "operation": "chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}},
            }
        ],
        "format": schema,
        "options": {"temperature": 0.5, "top_p": 0.9, "num_predict": 9},
        "truncate": False,
        "think": "low",
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert (wanted.streams, wanted.is_background) == (True, True)
    assert wanted.ignored == ("parallel_tool_calls", "text.verbosity")
    response = json.loads(encoder(**wanted.shape).retrieved("queued"))
    del text["verbosity"]
    repeated = {name: body[name] for name in body if name not in {"include", "stream", "user", "text"}}
    assert {name: response[name] for name in repeated} == repeated
    assert response["text"] == text


def test_no_tool_may_be_called_where_none_is_chosen() -> None:
    assert "tools" not in parse(tools=[TOOL], tool_choice="none").call


def test_messages_come_in_every_spelling() -> None:
    assert messages_of(
        {"role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what is it?"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
            ],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "A cat.", "logprobs": []}],
        },
    ) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what is it?", "images": ["aGk="]},
        {"role": "assistant", "content": "A cat."},
    ]


def test_a_round_of_tools_becomes_ollamas() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    second = {**CALL, "call_id": "c2", "name": "now", "arguments": ""}
    result = {**OUTPUT, "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]}
    assert messages_of({"role": "user", "content": "?"}, reasoning, CALL, second, OUTPUT, result) == [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [NATIVE_CALL, {"id": "c2", "function": {"index": 1, "name": "now", "arguments": {}}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1", "tool_name": "weather"},
        {"role": "tool", "content": "noon", "tool_call_id": "c2", "tool_name": "now"},
    ]


def test_what_was_said_between_a_call_and_its_result_joins_the_call() -> None:
    assert messages_of(CALL, {"role": "assistant", "content": "One moment."}, OUTPUT) == [
        {"role": "assistant", "content": "One moment.", "tool_calls": [NATIVE_CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "c1", "tool_name": "weather"},
    ]


@pytest.mark.parametrize(
    "reasoning",
    [
        {"content": [{"type": "reasoning_text", "text": "hm"}], "summary": []},
        {"summary": [], "encrypted_content": "hm"},
    ],
)
def test_thoughts_go_with_the_message_that_follows_them(reasoning: dict[str, Any]) -> None:
    item = {"type": "reasoning", **reasoning}
    said = {"role": "assistant", "content": "Yes."}
    asked = {"role": "user", "content": "Sure?"}
    assert messages_of(item, asked, said) == [asked, {**said, "thinking": "hm"}]
    assert messages_of(item) == [{"role": "assistant", "content": "", "thinking": "hm"}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "root", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{**CALL, "arguments": "["}]}, "input[0].arguments"),
        ({"input": [{**OUTPUT, "output": None}]}, "input[0].output"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"instructions": ["x"]}, "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": "x"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"truncation": "always"}, "truncation"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"background": "yes"}, "background"),
        ({"background": True, "store": False}, "store"),
        ({"include": "all"}, "include"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(CallRefused) as caught:
        parse(**body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_response_is_asked_for_again_by_its_id() -> None:
    assert task_id(f"resp_{TASK_ID.hex}") == TASK_ID
    for wrong in ("", "resp_", TASK_ID.hex, f"resp_{TASK_ID}", f"resp_{TASK_ID.hex.upper()}", "resp_x\n"):
        with pytest.raises(CallRefused) as caught:
            task_id(wrong)
        assert caught.value.status == 404


def test_a_stream_is_asked_for_from_any_number() -> None:
    assert parse_retrieval({}) == Retrieval(streams=False, after=None)
    assert parse_retrieval({"stream": "true", "starting_after": "0"}) == Retrieval(streams=True, after=0)
    for wrong in ({"stream": "true", "starting_after": "-1"}, {"stream": "true", "starting_after": "٣"}):
        with pytest.raises(CallRefused, match="whole number"):
            parse_retrieval(wrong)
    with pytest.raises(CallRefused, match="stream=true"):
        parse_retrieval({"starting_after": "1"})


# --- the object -----------------------------------------------------------------------------------------------


def test_a_whole_answer_is_a_completed_response() -> None:
    truth = Truth(task_id=TASK_ID, finished_at=CREATED)
    chunks = [ChatChunk(thinking="hm"), ChatChunk(text="Hi!", logprobs=LOGPROBS), last(tool_calls=(WEATHER,))]
    value = json.loads(encoder().whole(chunks, truth))
    assert (value["id"], value["object"], value["status"]) == (f"resp_{TASK_ID.hex}", "response", "completed")
    assert (value["created_at"], value["completed_at"]) == (int(CREATED.timestamp()),) * 2
    assert (value["model"], value["temperature"], value["error"]) == ("TinyLlama", None, None)
    reasoning, message, call = value["output"]
    assert reasoning == {
        "id": f"rs_{TASK_ID.hex}_0",
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "hm"}],
    }
    assert (message["status"], message["role"], message["content"][0]["text"]) == ("completed", "assistant", "Hi!")
    assert [token["token"] for token in message["content"][0]["logprobs"]] == ["Hi", "!"]
    assert (call["call_id"], json.loads(call["arguments"])) == ("call_abc", {"city": "Köln"})
    assert (value["usage"]["input_tokens"], value["usage"]["total_tokens"]) == (7, 10)
    assert value["sutazai"]["task"] == str(TASK_ID)


def test_an_answer_that_was_cut_at_its_limit_is_incomplete() -> None:
    value = json.loads(encoder().whole(answer("Hel", reason="length"), TRUTH))
    assert (value["status"], value["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert value["output"][0]["status"] == "incomplete"


def test_an_empty_answer_is_an_empty_message() -> None:
    (item,) = json.loads(encoder().whole(answer(), TRUTH))["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


def test_an_answer_without_its_end_is_not_completed() -> None:
    with pytest.raises(ValueError, match="no end"):
        encoder().whole([ChatChunk(text="Hel")], TRUTH)


@pytest.mark.parametrize(
    ("task_status", "status", "item_status"),
    [
        ("queued", "queued", None),
        ("running", "in_progress", "in_progress"),
        ("cancelled", "cancelled", "incomplete"),
        ("failed", "failed", "incomplete"),
        ("expired", "failed", "incomplete"),
    ],
)
def test_a_response_is_shown_as_it_stands(task_status: str, status: str, item_status: str | None) -> None:
    chunks = [ChatChunk(text="Hel")] if item_status else []
    failure = Failure(status=504, message="Too late.", code="deadline-passed")
    value = json.loads(encoder().retrieved(STATUS_OF_TASK[task_status], chunks, truth=TRUTH, failure=failure))
    assert value["status"] == status
    assert [item["status"] for item in value["output"]] == ([item_status] if item_status else [])
    assert value["error"] == ({"code": "deadline-passed", "message": "Too late."} if status == "failed" else None)
    assert (value["usage"], value["sutazai"]) == (None, TOLD)


def test_every_state_of_a_task_has_a_name() -> None:
    assert set(STATUS_OF_TASK) == set(AgentTask.Status.values)


# --- the stream -----------------------------------------------------------------------------------------------


def test_a_stream_tells_of_each_item_from_its_beginning_to_its_end() -> None:
    chunks = [ChatChunk(thinking="h"), ChatChunk(thinking="m"), *answer("Hel", "lo")]
    chunks[-1].tool_calls = (WEATHER,)
    data = streamed(encoder(), chunks)
    events = events_of(data)
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    names = [line.removeprefix("event: ") for line in data.decode().splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    assert [event["output_index"] for event in events if "output_index" in event] == [0] * 7 + [1] * 7 + [2] * 4
    assert events[11] == {
        "type": "response.output_text.delta",
        "item_id": f"msg_{TASK_ID.hex}_1",
        "output_index": 1,
        "content_index": 0,
        "logprobs": [],
        "delta": "Hel",
        "sequence_number": 11,
    }
    assert events[12] == {**events[11], "delta": "lo", "sequence_number": 12}
    assert (events[6]["text"], events[13]["text"]) == ("hm", "Hello")
    assert events[-1]["response"] == json.loads(encoder().whole(chunks, TRUTH))


def test_a_stream_that_hits_the_limit_ends_incomplete() -> None:
    *_, end = events_of(streamed(encoder(), answer("Hel", reason="length")))
    assert (end["type"], end["response"]["status"]) == ("response.incomplete", "incomplete")


def test_a_stream_that_fails_says_so_and_keeps_what_there_was() -> None:
    writer = encoder()
    data = writer.start() + writer.piece(ChatChunk(text="Hel")) + writer.failure(Failure(status=502, message="cut"))
    *_, end = events_of(data)
    assert (end["type"], end["response"]["status"]) == ("response.failed", "failed")
    assert end["response"]["error"] == {"code": "server_error", "message": "cut"}
    assert end["response"]["output"][0]["content"][0]["text"] == "Hel"
    assert writer.is_over


def test_two_calls_with_one_id_are_told_apart() -> None:
    chunks = [last(tool_calls=(ToolCall("f", {}, id="call_0"), ToolCall("f", {}, id="call_0"), ToolCall("f", {})))]
    items = json.loads(encoder().whole(chunks, TRUTH))["output"]
    assert [item["call_id"] for item in items] == ["call_0", f"call_{TASK_ID.hex}_1", f"call_{TASK_ID.hex}_2"]


def test_thoughts_go_out_a_second_time_only_if_they_were_asked_for() -> None:
    chunks = [ChatChunk(thinking="hm"), last("x")]
    assert "encrypted_content" not in json.loads(encoder().whole(chunks, TRUTH))["output"][0]
    asked = encoder(**parse(include=["reasoning.encrypted_content"]).shape)
    assert json.loads(asked.whole(chunks, TRUTH))["output"][0]["encrypted_content"] == "hm"


@UNHURRIED
@given(chunks=ANSWERS)
def test_the_events_add_up_to_the_response(chunks: list[ChatChunk]) -> None:
    data = streamed(encoder(), chunks)
    events = events_of(data)
    assert data.isascii()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    response = events[-1]["response"]
    assert response == json.loads(encoder().whole(chunks, TRUTH))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == response["output"]
    for index, item in enumerate(done):
        deltas = "".join(event["delta"] for event in events if event.get("output_index") == index and "delta" in event)
        parts = item.get("content") or item.get("summary")
        assert deltas == (item["arguments"] if item["type"] == "function_call" else parts[0]["text"])
    assert len({item["id"] for item in done}) == len(done)


@UNHURRIED
@given(chunks=ANSWERS, after=st.integers(0, 60), seen=st.integers(0, 7))
def test_a_resumed_stream_is_the_rest_of_the_first(chunks: list[ChatChunk], after: int, seen: int) -> None:
    *pieces, end = chunks
    first = events_of(streamed(encoder(), chunks))
    resumed = encoder(after=after)
    data = resumed.history(pieces[:seen]) + b"".join(map(resumed.piece, pieces[seen:])) + resumed.end(end, TRUTH)
    assert events_of(data) == [event for event in first if event["sequence_number"] > after]


def test_a_stream_whose_run_begins_anew_ends_if_something_was_seen_of_it() -> None:
    writer = encoder()
    writer.start()
    assert (writer.restart(), writer.is_over) == (b"", False)
    writer.piece(ChatChunk(text="Hel"))
    (event,) = events_of(writer.restart())
    assert (event["type"], event["response"]["error"]["code"]) == ("response.failed", RESTARTED.code)
    assert writer.is_over


RUNS = st.lists(st.lists(CHUNKS, max_size=4), min_size=1, max_size=3)


def played(writer: ResponsesEncoder, runs: list[list[ChatChunk]], end: ChatChunk) -> list[Any]:
    """What a client gets that comes when the last run is about to end."""
    pieces: list[ChatChunk | None] = [piece for run in runs for piece in (*run, None)]
    data = writer.history(pieces[:-1])
    return events_of(data if writer.is_over else data + writer.end(end, TRUTH))


@UNHURRIED
@given(runs=RUNS, end=ENDS)
def test_a_new_client_gets_the_last_run_alone(runs: list[list[ChatChunk]], end: ChatChunk) -> None:
    events = played(encoder(), runs, end)
    assert events[0]["type"] == "response.created"
    assert events[-1]["response"]["output"] == json.loads(encoder().whole([*runs[-1], end], TRUTH))["output"]
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@UNHURRIED
@given(runs=RUNS, end=ENDS, data=st.data())
def test_a_client_of_the_last_run_resumes_and_one_of_an_earlier_run_is_told_at_its_end(
    runs: list[list[ChatChunk]], end: ChatChunk, data: st.DataObject
) -> None:
    whole = played(encoder(), runs, end)
    first = whole[0]["sequence_number"]
    after = data.draw(st.integers(0, whole[-1]["sequence_number"]))
    events = played(encoder(after=after), runs, end)
    if after >= first:
        assert events == [event for event in whole if event["sequence_number"] > after]
    else:
        told, numbers = events[-1], [event["sequence_number"] for event in events]
        assert (told["type"], told["response"]["error"]["code"]) == ("response.failed", "restarted")
        assert numbers == list(range(after + 1, numbers[-1] + 1)) or numbers == [after]


def test_a_client_that_was_told_already_is_told_again() -> None:
    pieces = [ChatChunk(text="Hel"), None]
    told = played(encoder(), [[ChatChunk(text="Hel")], []], last())[0]["sequence_number"] - 1
    writer = encoder(after=told)
    (event,) = events_of(writer.history(pieces))
    assert (event["type"], event["sequence_number"]) == ("response.failed", told)


def test_ids_belong_to_one_task() -> None:
    other = ResponsesEncoder(type(IDENTITY)(uuid.uuid4(), CREATED, "m"), {})
    assert other.id != encoder().id
