"""The conformance cases of Ollama's protocol, asked of the test server as any client would: by plain HTTP and with
the official `ollama` and `openai` clients. The numbers are those of the cases."""

import base64
import json
import math
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema
import ollama
import openai
import pytest

from tests.ollama_server import OllamaTestProcess, OllamaTestServer

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as running:
        yield running


@pytest.fixture
def raw(server: OllamaTestServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


@pytest.fixture
def official(server: OllamaTestServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, trust_env=False) as client:
        yield client


@pytest.fixture
def compatible(server: OllamaTestServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.content.split(b"\n") if line]


def test_case_01_the_root_says_that_ollama_is_running(raw: httpx.Client) -> None:
    response = raw.get("/")
    assert (response.status_code, response.text) == (200, "Ollama is running")
    assert raw.head("/").content == b""


def test_case_02_version_is_a_string(raw: httpx.Client) -> None:
    assert isinstance(raw.get("/api/version").json()["version"], str)


def test_case_03_an_unknown_route_is_404_in_plain_text(raw: httpx.Client) -> None:
    response = raw.get("/nope")
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/plain")


def test_case_04_a_wrong_method_is_405(raw: httpx.Client) -> None:
    assert raw.get("/api/chat").status_code == 405


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_case_05_a_foreign_origin_is_403_and_empty(raw: httpx.Client, headers: dict[str, str]) -> None:
    response = raw.get("/api/version", headers=headers)
    assert (response.status_code, response.content) == (403, b"")


def test_case_05_a_local_origin_is_welcome(raw: httpx.Client) -> None:
    assert raw.get("/api/version", headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_case_06_chat_without_a_body_is_400(raw: httpx.Client) -> None:
    response = raw.post("/api/chat")
    assert (response.status_code, response.json()) == (400, {"error": "missing request body"})


def test_case_07_chat_with_broken_json_is_400_in_json(raw: httpx.Client) -> None:
    response = raw.post("/api/chat", content=b"{bad")
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)


def test_case_08_chat_without_a_model_is_400(raw: httpx.Client) -> None:
    response = raw.post("/api/chat", json={"messages": HELLO})
    assert (response.status_code, response.json()) == (400, {"error": "model is required"})


def test_case_09_generate_without_a_model_is_404(raw: httpx.Client) -> None:
    response = raw.post("/api/generate", json={"prompt": "hello"})
    assert (response.status_code, response.json()) == (404, {"error": "model '' not found"})


def test_case_10_an_unknown_model_is_404_in_json_although_streaming(raw: httpx.Client) -> None:
    response = raw.post("/api/chat", json={"model": "absent", "messages": HELLO})
    assert (response.status_code, response.json()) == (404, {"error": "model 'absent' not found"})
    assert response.headers["content-type"].startswith("application/json")


def test_case_10_the_official_client_reports_it(official: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(official.chat("absent", HELLO, stream=True))
    assert caught.value.status_code == 404


def test_case_11_embedding_with_an_unknown_model_hints_at_pulling(raw: httpx.Client) -> None:
    response = raw.post("/api/embed", json={"model": "absent", "input": "a"})
    assert response.status_code == 404
    assert response.json()["error"] == 'model "absent" not found, try pulling it first'


def test_case_12_chat_streams_ndjson_and_ends_with_its_only_done(raw: httpx.Client) -> None:
    response = raw.post("/api/chat", json={"model": "tinyllama", "messages": HELLO})
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert response.content.endswith(b"\n")
    dones = [line["done"] for line in lines_of(response)]
    assert dones == [False] * (len(dones) - 1) + [True]


def test_case_12_the_official_client_reads_it(official: ollama.Client) -> None:
    chunks = list(official.chat("tinyllama", HELLO, stream=True))
    assert "hello" in "".join(chunk.message.content or "" for chunk in chunks)
    assert chunks[-1].done_reason == "stop"
    assert chunks[-1].eval_count == len(chunks) - 1


def test_case_13_chat_without_streaming_is_one_object_with_durations(official: ollama.Client) -> None:
    answer = official.chat("tinyllama", HELLO)
    assert "hello" in (answer.message.content or "")
    assert answer.done
    assert (answer.total_duration or 0) >= (answer.prompt_eval_duration or 0) > 0


def test_case_14_empty_messages_load_and_unload_the_model(raw: httpx.Client) -> None:
    loaded = raw.post("/api/chat", json={"model": "tinyllama", "messages": []})
    assert loaded.json()["done_reason"] == "load"
    assert not loaded.content.endswith(b"\n")
    assert [row["name"] for row in raw.get("/api/ps").json()["models"]] == ["tinyllama:latest"]
    unloaded = raw.post("/api/chat", json={"model": "tinyllama", "messages": [], "keep_alive": 0})
    assert unloaded.json()["done_reason"] == "unload"
    assert raw.get("/api/ps").json()["models"] == []


def test_case_15_keep_alive_needs_a_unit_and_minus_one_is_for_ever(raw: httpx.Client) -> None:
    body = {"model": "tinyllama", "messages": HELLO, "stream": False}
    assert raw.post("/api/chat", json={**body, "keep_alive": "300"}).status_code == 400
    assert raw.post("/api/chat", json={**body, "keep_alive": -1}).status_code == 200
    (row,) = raw.get("/api/ps").json()["models"]
    assert datetime.fromisoformat(row["expires_at"]) > datetime.now(UTC) + timedelta(days=3650)


def test_case_15_a_short_keep_alive_unloads_the_model(server: OllamaTestServer, official: ollama.Client) -> None:
    official.chat("tinyllama", HELLO, keep_alive="20ms")
    server.wait_for(lambda stats: not stats["loaded"])


def test_case_16_num_predict_limits_the_answer(official: ollama.Client) -> None:
    answer = official.chat("tinyllama", HELLO, options={"num_predict": 3})
    assert (answer.done_reason, answer.eval_count) == ("length", 3)


@pytest.mark.parametrize("think", [True, "banana"])
def test_case_17_thinking_on_a_plain_model_is_400(raw: httpx.Client, think: object) -> None:
    response = raw.post("/api/chat", json={"model": "tinyllama", "messages": HELLO, "think": think})
    assert response.status_code == 400


def test_case_17_thinking_on_a_capable_model_comes_apart(official: ollama.Client) -> None:
    answer = official.chat("double", HELLO, think=True)
    assert "thought" in (answer.message.thinking or "")
    assert "thought" not in (answer.message.content or "")


def test_case_18_tools_need_a_capable_model(raw: httpx.Client, official: ollama.Client) -> None:
    body = {"model": "tinyllama", "messages": HELLO, "tools": [WEATHER]}
    assert raw.post("/api/chat", json=body).status_code == 400
    answer = official.chat("double", HELLO, tools=[WEATHER])
    (call,) = answer.message.tool_calls or ()
    assert call.function.name == "weather"
    assert call.function.arguments == {"city": "hello"}
    assert answer.done_reason == "stop"


def test_case_19_a_schema_shapes_the_answer(raw: httpx.Client, official: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 2, "maxItems": 3},
            "mood": {"enum": ["good", "bad"]},
            "score": {"type": "number", "minimum": 0.5, "maximum": 1},
            "rank": {"type": "integer", "exclusiveMinimum": 3},
            "person": {"$ref": "#/$defs/person"},
            "nothing": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["tags", "mood", "score", "rank", "person", "nothing"],
        "$defs": {"person": {"type": "object", "properties": {"known": {"type": "boolean"}}, "required": ["known"]}},
    }
    answer = official.chat("tinyllama", HELLO, format=schema)
    jsonschema.validate(json.loads(answer.message.content or ""), schema)
    refused = raw.post("/api/chat", json={"model": "tinyllama", "messages": HELLO, "format": 5})
    assert refused.status_code == 500


def test_case_20_top_logprobs_beyond_20_is_400(raw: httpx.Client, official: ollama.Client) -> None:
    body = {"model": "tinyllama", "messages": HELLO, "logprobs": True, "top_logprobs": 21}
    assert raw.post("/api/chat", json=body).status_code == 400
    answer = official.chat("tinyllama", HELLO, logprobs=True, top_logprobs=2)
    assert [len(entry.top_logprobs or ()) for entry in answer.logprobs or ()] == [2] * (answer.eval_count or 0)


def test_case_21_an_option_of_the_wrong_type_is_500_and_an_unknown_one_ignored(raw: httpx.Client) -> None:
    body = {"model": "tinyllama", "messages": HELLO}
    assert raw.post("/api/chat", json={**body, "options": {"temperature": "hot"}}).status_code == 500
    assert raw.post("/api/chat", json={**body, "options": {"no_such_option": 1}}).status_code == 200


def test_case_22_a_malformed_image_is_400(raw: httpx.Client) -> None:
    messages = [{"role": "user", "content": "what is it?", "images": ["data:image/png;base64,AAAA"]}]
    assert raw.post("/api/chat", json={"model": "double", "messages": messages}).status_code == 400


def test_case_23_a_failure_in_mid_stream_is_a_last_error_line(raw: httpx.Client, official: ollama.Client) -> None:
    response = raw.post("/api/chat", json={"model": "double:t9-error3", "messages": HELLO})
    *before, last = lines_of(response)
    assert response.status_code == 200
    assert [line["done"] for line in before] == [False] * 3
    assert set(last) == {"error"}
    with pytest.raises(ollama.ResponseError):
        list(official.chat("double:t9-error3", HELLO, stream=True))


def test_case_24_a_silent_end_has_no_done(raw: httpx.Client) -> None:
    response = raw.post("/api/chat", json={"model": "double:t9-eof3", "messages": HELLO})
    assert response.status_code == 200
    assert [line["done"] for line in lines_of(response)] == [False] * 3
    whole = raw.post("/api/chat", json={"model": "double:t9-eof3", "messages": HELLO, "stream": False})
    assert whole.json()["done"] is False


def test_case_25_a_full_load_queue_is_503_while_a_loaded_model_waits() -> None:
    with (
        OllamaTestServer(max_queue=0, models=["double", "tinyllama", "slow"]) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=20) as raw,
    ):
        body = {"messages": HELLO, "stream": False}
        raw.post("/api/chat", json={**body, "model": "tinyllama"})
        server.control(load_seconds=30)
        holder = threading.Thread(target=_ignore_failure, args=(server.url, {**body, "model": "slow"}))
        holder.start()
        server.wait_for(lambda stats: stats["loads"] == 2)
        refused = raw.post("/api/chat", json={**body, "model": "double"})
        assert (refused.status_code, refused.json()["error"][:11]) == (503, "server busy")
        assert raw.post("/api/chat", json={**body, "model": "tinyllama"}).status_code == 200
    holder.join()


def _ignore_failure(url: str, body: dict[str, Any]) -> None:
    """Hold a load until the server is stopped under it."""
    with httpx.Client(trust_env=False, timeout=20) as client, pytest.raises(httpx.HTTPError):
        client.post(f"{url}/api/chat", json=body)


def test_case_26_leaving_in_mid_stream_frees_the_slot(server: OllamaTestServer, raw: httpx.Client) -> None:
    slow = {"model": "double:t1000-d20", "messages": HELLO}
    with raw.stream("POST", "/api/chat", json=slow) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert server.stats()["loaded"] == {"double:t1000-d20": 1}
    stats = server.wait_for(lambda stats: stats["aborted"] == 1)
    assert stats["loaded"] == {"double:t1000-d20": 0}
    assert stats["in_flight"] == 0


def test_case_26_leaving_during_a_load_aborts_it(server: OllamaTestServer, raw: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        raw.post("/api/chat", json={"model": "double:l30000", "messages": HELLO}, timeout=0.05)
    stats = server.wait_for(lambda stats: stats["loads_aborted"] == 1)
    assert stats["loaded"] == {}


def test_case_27_embeddings_are_unit_vectors(raw: httpx.Client, official: ollama.Client) -> None:
    rows = official.embed("embedder", ["one", "two"]).embeddings
    assert [math.hypot(*row) for row in rows] == pytest.approx([1.0, 1.0])
    assert rows[0] != rows[1]
    assert official.embed("embedder", []).embeddings == []
    long = {"model": "embedder", "input": "word " * 9000}
    assert raw.post("/api/embed", json=long).status_code == 200
    assert raw.post("/api/embed", json={**long, "truncate": False}).status_code == 400


def test_case_28_pulling_an_unknown_model_fails_after_progress(raw: httpx.Client) -> None:
    streamed = raw.post("/api/pull", json={"model": "absent"})
    assert streamed.status_code == 200
    assert [set(line) for line in lines_of(streamed)] == [{"status"}, {"error"}]
    assert raw.post("/api/pull", json={"model": "absent", "stream": False}).status_code == 500


def test_case_28_pulling_a_known_model_installs_it(official: ollama.Client) -> None:
    steps = list(official.pull("pullable", stream=True))
    assert steps[-1].status == "success"
    assert [step.completed for step in steps if step.total][-1] == steps[1].total
    assert "pullable:latest" in [model.model for model in official.list().models]


def test_case_29_deleting_works_once(raw: httpx.Client) -> None:
    first = raw.request("DELETE", "/api/delete", json={"model": "tinyllama"})
    assert (first.status_code, first.content) == (200, b"")
    assert raw.request("DELETE", "/api/delete", json={"model": "tinyllama"}).status_code == 404


def test_case_30_the_list_of_no_models_is_null(server: OllamaTestServer, raw: httpx.Client) -> None:
    assert raw.get("/v1/models").json()["data"][0]["object"] == "model"
    server.control(remove=["double", "tinyllama", "embedder"])
    assert raw.get("/v1/models").json() == {"object": "list", "data": None}


def test_case_31_compatible_chat_without_messages_is_an_invalid_request(compatible: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        compatible.chat.completions.create(model="tinyllama", messages=[])
    assert caught.value.type == "invalid_request_error"


def test_case_32_a_compatible_call_names_an_unknown_model(compatible: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        compatible.chat.completions.create(model="absent", messages=HELLO)
    assert caught.value.type == "not_found_error"
    with pytest.raises(openai.NotFoundError, match="absent:latest"):
        compatible.models.retrieve("absent")


def test_case_33_a_compatible_stream_has_one_role_finish_usage_and_done(raw: httpx.Client) -> None:
    body = {"model": "tinyllama", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    response = raw.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = response.text.split("\n\n")[:-1]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert done == "data: [DONE]"
    assert [("role" in choice["delta"]) for chunk in chunks for choice in chunk["choices"]].count(True) == 1
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len(chunks) - 2


def test_case_33_the_openai_client_reads_it(compatible: openai.OpenAI) -> None:
    stream = compatible.chat.completions.create(model="tinyllama", messages=HELLO, stream=True)
    assert "hello" in "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_case_34_a_compatible_tool_call_has_string_arguments(compatible: openai.OpenAI) -> None:
    answer = compatible.chat.completions.create(model="double", messages=HELLO, tools=[WEATHER])
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or ()
    assert choice.finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"city": "hello"}


def test_case_35_a_compatible_stream_loses_the_error_and_ends_without_done(raw: httpx.Client) -> None:
    body = {"model": "double:t9-error3", "messages": HELLO, "stream": True}
    *_, last, empty = raw.post("/v1/chat/completions", json=body).text.split("\n\n")
    chunk = json.loads(last.removeprefix("data: "))
    assert (chunk["model"], chunk["choices"][0]["finish_reason"], empty) == ("", None, "")


def test_case_36_compatible_embeddings_in_base64_equal_floats(raw: httpx.Client, compatible: openai.OpenAI) -> None:
    floats = compatible.embeddings.create(model="embedder", input="one", encoding_format="float").data[0].embedding
    body = {"model": "embedder", "input": "one", "encoding_format": "base64"}
    packed = base64.b64decode(raw.post("/v1/embeddings", json=body).json()["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(floats)}f", packed)) == pytest.approx(floats)
    assert compatible.embeddings.create(model="embedder", input="one").data[0].embedding == pytest.approx(floats)


def test_case_37_unusual_line_separators_reach_the_compatible_client(compatible: openai.OpenAI) -> None:
    text = "one\u2028two\u0085three"
    stream = compatible.chat.completions.create(
        model="tinyllama", messages=[{"role": "user", "content": text}], stream=True
    )
    assert text in "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_case_37_unusual_line_separators_reach_the_official_client_when_escaped(official: ollama.Client) -> None:
    text = "one\u2028two\u0085three [[ascii]]"
    chunks = list(official.chat("tinyllama", [{"role": "user", "content": text}], stream=True))
    assert text in "".join(chunk.message.content or "" for chunk in chunks)


def test_case_38_split_bytes_make_identical_text(official: ollama.Client) -> None:
    text = "Grüße, 世界 🙂"
    plain = official.chat("double", [{"role": "user", "content": text}], stream=True)
    split = official.chat("double:split1", [{"role": "user", "content": text}], stream=True)
    assert [chunk.message.content for chunk in plain] == [chunk.message.content for chunk in split]


def test_slots_are_granted_one_after_another(server: OllamaTestServer, raw: httpx.Client) -> None:
    server.control(parallel=2)
    body = {"model": "double:hold0", "messages": HELLO}
    threads = [
        threading.Thread(target=httpx.post, args=(f"{server.url}/api/chat",), kwargs={"json": body}) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    stats = server.wait_for(lambda stats: stats["loaded"].get("double:hold0") == 4)
    assert stats["prompts_started"] == {"hello": 2}
    server.control(release=True)
    for thread in threads:
        thread.join()
    assert server.stats()["prompts_finished"] == {"hello": 4}


def test_an_answer_is_held_until_it_may_go_on(server: OllamaTestServer, raw: httpx.Client) -> None:
    for _ in range(2):
        with raw.stream("POST", "/api/chat", json={"model": "double:t5-hold2", "messages": HELLO}) as response:
            lines = response.iter_lines()
            begun = [json.loads(next(lines)) for _ in range(2)]
            server.control(release=True)
            rest = [json.loads(line) for line in lines]
        assert [line["done"] for line in begun + rest] == [False] * 5 + [True]
        assert raw.post("/api/chat", json={"model": "double:t5-hold2", "messages": HELLO, "stream": False}).is_success
        server.control(reset=True)


def test_a_controlled_fault_strikes_as_often_as_asked(server: OllamaTestServer, raw: httpx.Client) -> None:
    server.control(faults=[{"knobs": "status503", "prompt": "hello", "times": 2}])
    statuses = [raw.post("/api/chat", json={"model": "double", "messages": HELLO}).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_long_prompt_is_cut_silently_and_only_the_count_tells(raw: httpx.Client) -> None:
    messages = [{"role": "user", "content": "old " * 500}, {"role": "user", "content": "new " * 100}]
    body = {"model": "double", "messages": messages, "stream": False, "options": {"num_ctx": 200}}
    assert raw.post("/api/chat", json=body).json()["prompt_eval_count"] == 100
    assert raw.post("/api/chat", json={**body, "truncate": False}).status_code == 400


def test_requests_may_follow_each_other_without_waiting(server: OllamaTestServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        received = b""
        while received.count(b'"version"') < 2:
            received += sock.recv(4096)


def test_it_runs_alone() -> None:
    with OllamaTestProcess("--model", "mine", "--parallel", "4") as server:
        rows = httpx.get(f"{server.url}/api/tags", trust_env=False).json()["models"]
        assert [row["name"] for row in rows] == ["mine:latest"]
    assert server.process.returncode == 0
