"""The official clients read what the formats write, over real HTTP. Numbers are those of the conformance cases."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest
from pydantic import BaseModel

from agents.gateway.formats.base import Failure
from agents.gateway.formats.vectors import Embedded
from agents.ollama.types import ChatChunk, Details, InstalledModel, ToolCall
from tests.agents.gateway.formats.door import World, opened
from tests.agents.gateway.formats.samples import LOGPROBS, TOLD, WEATHER, answer, last

HELLO: Any = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "parameters": {**PARAMETERS, "additionalProperties": False}, "strict": True}
TOOL: Any = {"type": "function", "function": FUNCTION}
ODD = "one\u2028two\u0085three\u2029 \x1c 🙂"
CUT = Failure(status=502, message="the model server went away", code="cut-stream")


class City(BaseModel):
    city: str


SCRIPTS: dict[str, Any] = {
    "plain": answer("Hel", "lo"),
    "odd": answer(ODD),
    "long": answer("Hel", reason="length"),
    "thinker": [ChatChunk(thinking="h"), ChatChunk(thinking="m"), *answer("Yes", ".")],
    "caller": [
        ChatChunk(text="Let me look."),
        ChatChunk(tool_calls=(WEATHER,)),
        last(tool_calls=(ToolCall("weather", {"city": "Bonn"}, index=1),)),
    ],
    "city": answer('{"ci', 'ty": "Köln"}'),
    "sure": [ChatChunk(text="Hi!", logprobs=LOGPROBS), last()],
    "loaded": [ChatChunk(done=True, done_reason="load")],
    "cut": [ChatChunk(text="Hel"), CUT],
    "refusing": [Failure(status=400, message='"refusing" does not support tools')],
}
ROWS = [[0.6, 0.8, 0.1], [1.0, 0.0, -0.3]]
PACKED = b"".join(struct.pack("<3f", *row) for row in ROWS)
INSTALLED = [
    InstalledModel(
        name="plain:latest",
        size_bytes=5,
        modified_at="2026-08-01T12:00:00Z",
        details=Details(family="llama"),
        capabilities=("completion",),
    ),
    InstalledModel(name="agent:helper"),
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    scripts = SCRIPTS | {str(status): [Failure(status=status, message=f"no: {status}")] for status in STATUSES}
    vectors = {"embedder": Embedded(packed=PACKED, count=2, prompt_tokens=4)}
    with opened(World(scripts=scripts, vectors=vectors, installed=list(INSTALLED))) as running:
        yield running


@pytest.fixture
def raw(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, trust_env=False) as client:
        yield client


@pytest.fixture
def native(world: World) -> Iterator[ollama.Client]:
    with ollama.Client(host=world.url, trust_env=False) as client:
        yield client


@pytest.fixture
def compatible(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


# --- ollama ---------------------------------------------------------------------------------------------------


def test_case_03_04_unknown_routes_are_plain_text(raw: httpx.Client) -> None:
    for path, status in (("/nope", 404), ("/api/chat", 405)):
        response = raw.get(path)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/plain")


def test_case_06_07_bad_bodies_are_told_in_json(raw: httpx.Client) -> None:
    assert raw.post("/api/chat").json() == {"error": "missing request body"}
    assert raw.post("/v1/chat/completions").json()["error"]["message"] == "EOF"
    response = raw.post("/api/chat", content=b"{bad")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")


def test_case_10_11_unknown_models_are_told_in_json(native: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'absent' not found") as caught:
        list(native.chat("absent", HELLO, stream=True))
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="try pulling it first"):
        native.embed("absent", "a")


def test_case_12_ollama_reads_a_stream(native: ollama.Client) -> None:
    chunks = list(native.chat("plain", HELLO, stream=True))
    assert [chunk.message.content for chunk in chunks] == ["Hel", "lo", ""]
    assert [chunk.done for chunk in chunks] == [False, False, True]
    assert (chunks[-1].eval_count, chunks[-1].done_reason) == (3, "stop")


def test_case_13_ollama_reads_a_whole_answer(native: ollama.Client) -> None:
    whole = native.chat("plain", HELLO)
    assert (whole.message.content, whole.total_duration, whole.done) == ("Hello", 2_500_000_000, True)


def test_case_14_ollama_loads_a_model(world: World, native: ollama.Client, raw: httpx.Client) -> None:
    assert native.chat("loaded", []).done_reason == "load"
    response = raw.post("/api/chat", json={"model": "loaded", "keep_alive": 0})
    assert response.headers["content-type"] == "application/json"
    assert not response.content.endswith(b"\n")
    assert world.calls[-1].call == {"operation": "chat", "messages": [], "keep_alive": 0}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"keep_alive": "300"}, 400),
        ({"think": "banana"}, 400),
        ({"format": 5}, 500),
        ({"top_logprobs": 21}, 400),
        ({"options": {"temperature": "hot"}}, 500),
        ({"messages": [{"role": "user", "content": "x", "images": ["data:image/png;base64,AAAA"]}]}, 400),
    ],
)
def test_case_15_to_22_ollama_is_refused(raw: httpx.Client, body: dict[str, Any], status: int) -> None:
    response = raw.post("/api/chat", json={"model": "plain", "messages": HELLO, **body})
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)


def test_case_16_ollama_is_told_of_the_limit(native: ollama.Client) -> None:
    assert native.generate("long", "hello").done_reason == "length"


def test_case_17_ollama_gets_thoughts_apart(native: ollama.Client) -> None:
    chunks = list(native.chat("thinker", HELLO, think=True, stream=True))
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == "hm"
    assert "".join(chunk.message.content or "" for chunk in chunks) == "Yes."
    assert native.generate("thinker", "hello", think=True).thinking == "hm"


def test_case_18_ollama_gets_tool_calls(world: World, native: ollama.Client) -> None:
    whole = native.chat("caller", HELLO, tools=[TOOL])
    calls = whole.message.tool_calls or ()
    assert [call.function.arguments for call in calls] == [{"city": "Köln"}, {"city": "Bonn"}]
    assert world.calls[-1].call["tools"][0]["function"]["name"] == "weather"
    streamed = native.chat("caller", HELLO, tools=[TOOL], stream=True)
    assert sum(len(chunk.message.tool_calls or ()) for chunk in streamed) == 2
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        native.chat("refusing", HELLO, tools=[TOOL])


def test_case_19_ollama_gets_what_a_schema_asks_for(world: World, native: ollama.Client) -> None:
    whole = native.chat("city", HELLO, format=City.model_json_schema())
    assert City.model_validate_json(whole.message.content or "") == City(city="Köln")
    assert world.calls[-1].call["format"]["properties"] == {"city": {"title": "City", "type": "string"}}


def test_case_20_ollama_reads_logprobs(native: ollama.Client) -> None:
    tokens = native.chat("sure", HELLO, logprobs=True, top_logprobs=1).logprobs or ()
    assert [(token.token, token.logprob, len(token.top_logprobs or ())) for token in tokens] == [
        ("Hi", -0.1, 1),
        ("!", -0.5, 0),
    ]


def test_case_23_ollama_is_told_of_a_failure_in_mid_stream(native: ollama.Client) -> None:
    stream = native.chat("cut", HELLO, stream=True)
    assert next(stream).message.content == "Hel"
    with pytest.raises(ollama.ResponseError, match="went away"):
        next(stream)


def test_case_27_ollama_reads_embeddings(native: ollama.Client) -> None:
    answered = native.embed("embedder", ["one", "two"])
    assert [list(row) for row in answered.embeddings] == [pytest.approx(row) for row in ROWS]
    assert native.embeddings("embedder", "one").embedding == pytest.approx(ROWS[0])


def test_case_37_both_clients_read_odd_line_ends(native: ollama.Client, compatible: openai.OpenAI) -> None:
    chunks = list(native.chat("odd", HELLO, stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == ODD
    stream = compatible.chat.completions.create(model="odd", messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ODD
    with compatible.responses.stream(model="odd", input="hello") as events:
        assert events.get_final_response().output_text == ODD


def test_ollama_lists_and_shows_models(native: ollama.Client) -> None:
    first, second = native.list().models
    assert (first.model, first.modified_at and first.modified_at.year) == ("plain:latest", 2026)
    assert (second.model, second.modified_at) == ("agent:helper", None)
    assert native.ps().models[0].context_length == 4096
    shown = native.show("plain:latest")
    assert (shown.modelinfo, shown.capabilities) == ({}, ["completion"])
    with pytest.raises(ollama.ResponseError, match="not found"):
        native.show("absent:latest")


# --- openai: chat ---------------------------------------------------------------------------------------------


def test_openai_reads_a_whole_answer_and_the_truth(compatible: openai.OpenAI) -> None:
    whole = compatible.chat.completions.create(model="plain", messages=HELLO)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("Hello", "stop")
    assert whole.usage
    assert whole.usage.total_tokens == 10
    assert whole.model_extra
    assert whole.model_extra["sutazai"] == TOLD


def test_case_33_openai_reads_a_stream_with_its_usage(compatible: openai.OpenAI) -> None:
    stream = compatible.chat.completions.create(
        model="plain", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage = list(stream)
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert (usage.choices, usage.usage and usage.usage.completion_tokens) == ([], 3)


def test_case_34_openai_reads_tool_calls(compatible: openai.OpenAI) -> None:
    whole = compatible.chat.completions.create(model="caller", messages=HELLO, tools=[TOOL])
    (choice,) = whole.choices
    calls: Any = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Köln"}, {"city": "Bonn"}]


def test_openai_gathers_tool_calls_from_a_stream(compatible: openai.OpenAI) -> None:
    with compatible.chat.completions.stream(model="caller", messages=HELLO, tools=[TOOL]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert [event.parsed_arguments for event in done] == [{"city": "Köln"}, {"city": "Bonn"}]
    assert (final.message.content, final.finish_reason) == ("Let me look.", "tool_calls")


def test_openai_parses_structured_output(world: World, compatible: openai.OpenAI) -> None:
    parsed = compatible.chat.completions.parse(model="city", messages=HELLO, response_format=City)
    assert parsed.choices[0].message.parsed == City(city="Köln")
    assert world.calls[-1].call["format"]["required"] == ["city"]
    with pytest.raises(openai.LengthFinishReasonError):
        compatible.chat.completions.parse(model="long", messages=HELLO, response_format=City)


def test_openai_reads_thoughts_and_logprobs(compatible: openai.OpenAI) -> None:
    message = compatible.chat.completions.create(model="thinker", messages=HELLO).choices[0].message
    assert message.model_extra == {"reasoning": "hm"}
    choice = compatible.chat.completions.create(model="sure", messages=HELLO, logprobs=True).choices[0]
    assert [token.token for token in (choice.logprobs and choice.logprobs.content) or ()] == ["Hi", "!"]


def test_case_31_32_openai_raises_for_bad_requests(compatible: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        compatible.chat.completions.create(model="plain", messages=[])
    assert (bad.value.type, bad.value.param) == ("invalid_request_error", "messages")
    with pytest.raises(openai.NotFoundError) as absent:
        compatible.chat.completions.create(model="absent", messages=HELLO, stream=True)
    assert absent.value.type == "not_found_error"
    with pytest.raises(openai.BadRequestError, match="n: must be 1"):
        compatible.chat.completions.create(model="plain", messages=HELLO, n=2)


STATUSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_openai_raises_its_own_class_for_each_status(compatible: openai.OpenAI, status: int) -> None:
    with pytest.raises(STATUSES[status], match=f"no: {status}") as caught:
        compatible.chat.completions.create(model=str(status), messages=HELLO)
    assert caught.value.status_code == status


def test_case_35_openai_raises_for_a_failure_in_mid_stream(compatible: openai.OpenAI) -> None:
    stream = compatible.chat.completions.create(model="cut", messages=HELLO, stream=True)
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError, match="went away") as caught:
        next(stream)
    assert caught.value.code == "cut-stream"


# --- openai: completions, embeddings, models ------------------------------------------------------------------


def test_openai_reads_completions(compatible: openai.OpenAI) -> None:
    whole = compatible.completions.create(model="plain", prompt="hello", echo=True)
    assert (whole.choices[0].text, whole.usage and whole.usage.total_tokens) == ("helloHello", 10)
    stream = compatible.completions.create(model="plain", prompt="hello", stream=True)
    assert [chunk.choices[0].text for chunk in stream] == ["Hel", "lo", ""]
    logprobs = compatible.completions.create(model="sure", prompt="hello", logprobs=1).choices[0].logprobs
    assert logprobs
    assert (logprobs.tokens, logprobs.text_offset) == (["Hi", "!"], [0, 2])


def test_case_36_openai_reads_embeddings_in_both_encodings(compatible: openai.OpenAI) -> None:
    packed = compatible.embeddings.create(model="embedder", input=["one", "two"])
    floats = compatible.embeddings.create(model="embedder", input=["one", "two"], encoding_format="float")
    for row, plain, expected in zip(packed.data, floats.data, ROWS, strict=True):
        assert row.embedding == pytest.approx(expected)
        assert plain.embedding == pytest.approx(row.embedding, rel=1e-8)
    assert packed.usage.prompt_tokens == 4


def test_case_30_openai_lists_models(world: World, compatible: openai.OpenAI) -> None:
    assert [model.id for model in compatible.models.list()] == ["plain:latest", "agent:helper"]
    assert compatible.models.retrieve("agent:helper").owned_by == "sutazai"
    with pytest.raises(openai.NotFoundError, match="absent:latest"):
        compatible.models.retrieve("absent:latest")
    world.installed.clear()
    assert list(compatible.models.list()) == []
    world.installed.extend(INSTALLED)


# --- openai: responses ----------------------------------------------------------------------------------------


def test_openai_reads_a_response(compatible: openai.OpenAI) -> None:
    response = compatible.responses.create(model="thinker", input="hello", instructions="Be brief.")
    assert (response.status, response.output_text, response.instructions) == ("completed", "Yes.", "Be brief.")
    reasoning = response.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == "hm"
    assert response.usage
    assert response.usage.total_tokens == 10


def test_openai_parses_a_structured_response(world: World, compatible: openai.OpenAI) -> None:
    assert compatible.responses.parse(model="city", input="hello", text_format=City).output_parsed == City(city="Köln")
    assert world.calls[-1].call["format"]["required"] == ["city"]
    with compatible.responses.stream(model="city", input="hello", text_format=City) as stream:
        assert stream.get_final_response().output_parsed == City(city="Köln")


def test_openai_follows_the_stream_of_a_response(compatible: openai.OpenAI) -> None:
    tool: Any = {"type": "function", **FUNCTION}
    with compatible.responses.stream(model="caller", input="hello", tools=[tool]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    snapshots = [event.snapshot for event in events if event.type == "response.output_text.delta"]
    assert snapshots == ["Let me look."]
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    calls: Any = final.output[1:]
    assert [call.parsed_arguments for call in calls] == [{"city": "Köln"}, {"city": "Bonn"}]
    assert len({call.call_id for call in calls}) == 2
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))


def test_openai_is_told_of_a_response_that_hit_its_limit(compatible: openai.OpenAI) -> None:
    response = compatible.responses.create(model="long", input="hello", max_output_tokens=1)
    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    *_, end = compatible.responses.create(model="long", input="hello", stream=True)
    assert end.type == "response.incomplete"


def test_openai_is_told_of_a_response_that_failed(compatible: openai.OpenAI) -> None:
    *_, end = compatible.responses.create(model="cut", input="hello", stream=True)
    assert end.type == "response.failed"
    assert end.response.error
    assert (end.response.error.code, end.response.error.message) == ("cut-stream", CUT.message)
    with pytest.raises(openai.BadRequestError, match="previous_response_id: is not supported"):
        compatible.responses.create(model="plain", input="hello", previous_response_id="resp_1")


def test_openai_comes_back_for_a_response(compatible: openai.OpenAI) -> None:
    queued = compatible.responses.create(model="plain", input="hello", background=True, metadata={"a": "b"})
    assert (queued.status, queued.output, queued.background) == ("queued", [], True)
    later = compatible.responses.retrieve(queued.id)
    assert (later.status, later.output_text, later.metadata) == ("completed", "Hello", {"a": "b"})
    with pytest.raises(openai.NotFoundError, match="not found"):
        compatible.responses.retrieve("resp_unknown")


def test_openai_resumes_the_stream_of_a_response(compatible: openai.OpenAI) -> None:
    first = list(compatible.responses.create(model="plain", input="hello", stream=True))
    assert first[0].type == "response.created"
    response_id = first[0].response.id
    for event in first:
        after = event.sequence_number
        rest = list(compatible.responses.retrieve(response_id, stream=True, starting_after=after))
        assert rest == [other for other in first if other.sequence_number > after]
    with compatible.responses.stream(response_id=response_id, starting_after=4) as stream:
        assert stream.get_final_response().output_text == "Hello"
