"""The official OpenAI client against the gateway, in both lanes."""

import json
import uuid

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from tests.program import wait_for

HELLO = [{"role": "user", "content": "hello there"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


class City(BaseModel):
    city: str


def test_models_and_agents_are_listed(gateway):
    names = [model.id for model in gateway.openai.models.list()]
    assert {"agent:helper", "agent:analyst", "double:latest", "tinyllama:latest", "embedder:latest"} <= set(names)
    assert gateway.openai.models.retrieve("tinyllama").id == "tinyllama:latest"
    assert gateway.openai.models.retrieve("agent:helper").owned_by == "sutazai"
    with pytest.raises(openai.NotFoundError):
        gateway.openai.models.retrieve("absent")


def test_a_chat_is_answered_whole(gateway):
    raw = gateway.openai.chat.completions.with_raw_response.create(model="double", messages=HELLO)
    answer = raw.parse()
    assert "hello there" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert answer.id.startswith("chatcmpl-")
    task = gateway.ask("GET", f"/api/v1/tasks/{raw.headers['X-SutazAI-Task']}").json()
    assert (task["status"], task["result"]) == ("succeeded", answer.choices[0].message.content)
    assert 0 <= float(raw.headers["X-SutazAI-Queue-Wait"]) < 5
    assert raw.headers["X-SutazAI-Node"]
    assert answer.model_extra["sutazai"]["task"] == task["id"]


def test_a_chat_is_streamed(gateway):
    stream = gateway.openai.chat.completions.create(
        model="double", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "hello there" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices][:2] == ["assistant", None]
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_an_agent_is_a_model(gateway):
    answer = gateway.openai.chat.completions.create(model="agent:helper", messages=HELLO)
    assert answer.choices[0].message.content
    analysis = gateway.openai.chat.completions.create(
        model="agent:analyst", messages=[{"role": "user", "content": "Anna Berg loves Oslo."}]
    )
    assert {"summary", "keywords"} <= set(json.loads(analysis.choices[0].message.content))


def test_tools_are_called_and_answered(gateway):
    answer = gateway.openai.chat.completions.create(model="double", messages=HELLO, tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, answer.choices[0].finish_reason) == ("weather", "tool_calls")
    assert isinstance(json.loads(call.function.arguments), dict)
    messages = [
        *HELLO,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    assert gateway.openai.chat.completions.create(model="double", messages=messages).choices[0].message.content
    chunks = list(gateway.openai.chat.completions.create(model="double", messages=HELLO, tools=[TOOL], stream=True))
    called = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert [item.function.name for item in called] == ["weather"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_structured_output_follows_its_schema(gateway):
    answer = gateway.openai.chat.completions.parse(model="double", messages=HELLO, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_thinking_is_told_apart(gateway):
    answer = gateway.openai.chat.completions.create(
        model="double", messages=[{"role": "user", "content": "[[think3]] yes"}], reasoning_effort="high"
    )
    assert answer.choices[0].message.model_extra["reasoning"]
    assert "yes" in answer.choices[0].message.content


def test_completions(gateway):
    assert "one two" in gateway.openai.completions.create(model="double", prompt="one two").choices[0].text
    chunks = list(gateway.openai.completions.create(model="double", prompt="one two", stream=True))
    assert "one two" in "".join(chunk.choices[0].text for chunk in chunks)


def test_embeddings_in_both_encodings(gateway):
    plain = gateway.openai.embeddings.create(model="embedder", input=["one", "two"], encoding_format="float")
    packed = gateway.openai.embeddings.create(model="embedder", input=["one", "two"])
    assert len(plain.data) == 2
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(number * number for number in one.embedding) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"model": "absent", "messages": HELLO}, openai.NotFoundError, "absent"),
        ({"model": "agent:absent", "messages": HELLO}, openai.NotFoundError, "agent:absent"),
        ({"model": "double", "messages": []}, openai.BadRequestError, "messages"),
        ({"model": "tinyllama", "messages": HELLO, "tools": [TOOL]}, openai.BadRequestError, "tools"),
        ({"model": "double", "messages": HELLO, "n": 2}, openai.BadRequestError, "n"),
    ],
)
def test_refusals_are_the_clients_own_errors(gateway, asked, error, text):
    with pytest.raises(error, match=text):
        gateway.openai.chat.completions.create(**asked)


def test_a_failure_in_the_middle_of_a_stream_is_an_error(gateway):
    broken = [{"role": "user", "content": "[[t9-d20-error3]]"}]
    stream = gateway.openai.chat.completions.create(model="double", messages=broken, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
    counted = broken_by_the_server(gateway)
    response = gateway.ask("POST", "/v1/chat/completions", {"model": "double", "messages": broken, "stream": True})
    assert response.status_code == 200
    assert b"[DONE]" not in response.content
    wait_for(lambda: broken_by_the_server(gateway) == counted + 1, "the failure is counted")


@pytest.mark.parametrize("streams", [False, True])
def test_a_failure_of_the_server_is_logged_with_the_request_s_id(gateway, streams):
    id_ = f"request-{uuid.uuid4()}"
    broken = [{"role": "user", "content": "[[t9-d20-error3]]"}]
    body = {"model": "double", "messages": broken, "stream": streams}
    gateway.ask("POST", "/v1/chat/completions", body, headers={"X-Request-Id": id_})
    wait_for(lambda: gateway.program.says(f"(request {id_})"), "the failure is logged")


def broken_by_the_server(gateway):
    families = text_string_to_metric_families(gateway.ask("GET", "/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == "api_errors_total")
    wanted = {"endpoint": "/v1/chat/completions", "fault": "server"}
    return sum(sample.value for sample in samples if wanted.items() <= sample.labels.items())


def test_without_a_key_nothing_is_told(gateway):
    for key in ("", "stz_000000000000_wrong"):
        for path in ("/v1/models", "/ollama/api/tags"):
            assert gateway.ask("GET", path, key=key).status_code == 401
        response = gateway.ask("POST", "/v1/chat/completions", {"model": "double", "messages": HELLO}, key=key)
        assert response.status_code == 401
        assert response.json()["error"]["message"]


def test_responses_are_streamed_kept_and_resumed(gateway):
    client = gateway.openai
    with client.responses.stream(model="double", input="one two three") as stream:
        events = list(stream)
        response = stream.get_final_response()
    assert "one two three" in response.output_text
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    again = client.responses.retrieve(response.id)
    assert (again.status, again.output_text) == ("completed", response.output_text)
    middle = numbers[len(numbers) // 2]
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=middle))
    assert [event.sequence_number for event in rest] == [number for number in numbers if number > middle]
    assert [event.type for event in rest] == [event.type for event in events if event.sequence_number > middle]
    assert list(client.responses.retrieve(response.id, stream=True, starting_after=numbers[-1])) == []
    whole = list(client.responses.retrieve(response.id, stream=True))
    assert [event.sequence_number for event in whole] == numbers
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_" + "0" * 32)
    retried = gateway.ask("POST", f"/api/v1/tasks/{uuid.UUID(response.id.removeprefix('resp_'))}/retry/")
    assert retried.status_code == 202
    with pytest.raises(openai.NotFoundError):  # nobody asked for that one as a response
        client.responses.retrieve(f"resp_{uuid.UUID(retried.json()['task']).hex}")


@pytest.mark.parametrize("streams", [False, True])
def test_a_response_that_is_not_to_be_kept_is_not_given_out_again(gateway, streams):
    client = gateway.openai
    asked = {"model": "double", "input": "gone tomorrow", "store": False}
    if streams:
        response = next(iter(client.responses.create(**asked, stream=True))).response
    else:
        response = client.responses.create(**asked)
    for ask in (client.responses.retrieve, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(response.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(**asked, background=True)


def test_a_call_that_is_repeated_with_its_key_has_the_name_and_the_answer_of_the_first(gateway):
    client = gateway.openai

    def ask(key, **options):
        headers = {"Idempotency-Key": f"{gateway.lane}-{key}"}
        return client.responses.create(model="double", input=f"repeat {key}", extra_headers=headers, **options)

    first, again = (ask("whole") for _ in range(2))
    assert (again.id, again.output_text) == (first.id, first.output_text)
    first, again = (list(ask("stream", stream=True)) for _ in range(2))
    assert again[0].response.id == first[0].response.id
    assert [(event.type, event.sequence_number) for event in again] == [
        (event.type, event.sequence_number) for event in first
    ]
    first, again = (ask("background", background=True) for _ in range(2))
    assert again.id == first.id
    assert client.responses.retrieve(again.id).id == first.id
    body = {"model": "double", "messages": HELLO}
    chats = [
        client.chat.completions.create(**body, extra_headers={"Idempotency-Key": f"{gateway.lane}-chat"}).id
        for _ in range(2)
    ]
    assert chats[0] == chats[1]


def test_a_response_in_the_background_is_fetched_and_cancelled(gateway):
    client = gateway.openai
    slow = client.responses.create(model="double", input="[[t1000-d50]]", background=True)
    assert slow.status in {"queued", "in_progress"}
    ended = client.responses.cancel(slow.id)
    assert ended.status == "cancelled"
    assert client.responses.retrieve(slow.id).status == "cancelled"
