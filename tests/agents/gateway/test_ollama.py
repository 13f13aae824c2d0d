"""The official Ollama client against the gateway, and the conformance cases that concern one, in both lanes."""

import json

import ollama
import pytest

HELLO = [{"role": "user", "content": "hello there"}]
ODD = "one\u2028two\u0085three"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def test_the_server_says_what_ollama_says(gateway):
    assert gateway.ask("GET", "/ollama/").text == "Ollama is running"
    assert gateway.ask("GET", "/ollama").text == "Ollama is running"
    missing = gateway.ask("GET", "/ollama/nope")
    assert (missing.status_code, missing.headers["Content-Type"]) == (404, "text/plain")
    assert gateway.ask("GET", "/ollama/api/chat").status_code == 405
    assert gateway.ask("GET", "/ollama/v1/models").status_code == 404
    assert gateway.ask("GET", "/ollama/api/version").json()["version"]


def test_models_are_listed_shown_and_seen_at_work(gateway):
    names = {model.model for model in gateway.ollama.list().models}
    assert {"agent:helper", "double:latest", "embedder:latest"} <= names
    assert "completion" in gateway.ollama.show("double").capabilities
    assert gateway.ollama.show("agent:helper").modelinfo == {}
    gateway.ollama.chat("double", HELLO)
    assert isinstance(gateway.ollama.ps().models, list)
    with pytest.raises(ollama.ResponseError, match="absent"):
        gateway.ollama.show("absent")


def test_a_chat_is_answered_and_streamed(gateway):
    whole = gateway.ollama.chat("double", HELLO)
    assert "hello there" in whole.message.content
    assert (whole.done, whole.done_reason) == (True, "stop")
    assert whole.eval_count > 0
    chunks = list(gateway.ollama.chat("double", HELLO, stream=True))
    assert "hello there" in "".join(chunk.message.content for chunk in chunks)
    assert [chunk.done for chunk in chunks].count(True) == 1
    assert chunks[-1].done


def test_generate(gateway):
    assert "one two" in gateway.ollama.generate("double", "one two").response
    chunks = list(gateway.ollama.generate("double", "one two", stream=True))
    assert "one two" in "".join(chunk.response for chunk in chunks)


def test_an_agent_answers_in_its_own_way(gateway):
    assert gateway.ollama.chat("agent:helper", HELLO).message.content


def test_case_14_empty_messages_load_a_model(gateway):
    assert gateway.ollama.chat("double", []).done_reason == "load"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "missing request body"),
        (b"{bad", 400, ""),
        ({"messages": HELLO}, 400, "model is required"),
        ({"model": "absent", "messages": HELLO, "stream": True}, 404, "model 'absent' not found"),
        ({"model": "double", "messages": HELLO, "keep_alive": "300"}, 400, ""),
        ({"model": "tinyllama", "messages": HELLO, "think": True}, 400, "thinking"),
        ({"model": "double", "messages": HELLO, "think": "banana"}, 400, ""),
        ({"model": "tinyllama", "messages": HELLO, "tools": [TOOL]}, 400, "tools"),
        ({"model": "double", "messages": HELLO, "format": 5}, 500, ""),
        ({"model": "double", "messages": HELLO, "top_logprobs": 21}, 400, ""),
        ({"model": "double", "messages": HELLO, "options": {"temperature": "hot"}}, 500, ""),
        ({"model": "double", "messages": [{"role": "user", "content": "x", "images": ["%%"]}]}, 400, ""),
    ],
)
def test_cases_6_to_22_bad_requests(gateway, body, status, text):
    response = gateway.ask("POST", "/ollama/api/chat", body)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json")
    assert text in response.json()["error"]


def test_cases_9_and_11_generate_and_embed_without_a_model(gateway):
    missing = gateway.ask("POST", "/ollama/api/generate", {"prompt": "x"})
    assert (missing.status_code, missing.json()["error"]) == (404, "model '' not found")
    with pytest.raises(ollama.ResponseError, match="try pulling it first"):
        gateway.ollama.embed("absent", "a")


def test_case_16_a_limit_ends_with_length(gateway):
    answer = gateway.ollama.chat("double", [{"role": "user", "content": "[[t9]]"}], options={"num_predict": 3})
    assert (answer.done_reason, answer.eval_count) == ("length", 3)


def test_case_18_tool_calls_have_objects(gateway):
    answer = gateway.ollama.chat("double", HELLO, tools=[TOOL])
    assert answer.message.tool_calls[0].function.name == "weather"
    assert isinstance(answer.message.tool_calls[0].function.arguments, dict)


def test_case_19_a_schema_is_followed(gateway):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert "city" in json.loads(gateway.ollama.chat("double", HELLO, format=schema).message.content)


def test_case_23_a_failure_in_mid_stream_is_a_last_line(gateway):
    body = {"model": "double", "messages": [{"role": "user", "content": "[[t9-d20-error3]]"}]}
    response = gateway.ask("POST", "/ollama/api/chat", body)
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert response.status_code == 200
    assert "error" in lines[-1]
    assert not any(line.get("done") for line in lines)


def test_case_24_a_silent_end_is_a_failure(gateway):
    with pytest.raises(ollama.ResponseError):
        list(gateway.ollama.chat("double", [{"role": "user", "content": "[[t9-d20-eof3]]"}], stream=True))
    with pytest.raises(ollama.ResponseError):
        gateway.ollama.chat("double", [{"role": "user", "content": "[[t9-d20-eof3]]"}])


def test_case_26_a_client_that_leaves_frees_its_slot(gateway):
    stream = gateway.ollama.chat("double", [{"role": "user", "content": "[[t1000-d20]]"}], stream=True)
    next(stream)
    assert gateway.server.stats()["in_flight"] == 1
    stream.close()
    gateway.server.wait_for(lambda stats: stats["in_flight"] == 0)


def test_case_27_embeddings(gateway):
    two = gateway.ollama.embed("embedder", ["one", "two"])
    assert len(two.embeddings) == 2
    assert sum(number * number for number in two.embeddings[0]) == pytest.approx(1, abs=1e-3)
    assert list(gateway.ollama.embed("embedder", []).embeddings) == []
    legacy = gateway.ask("POST", "/ollama/api/embeddings", {"model": "embedder", "prompt": "one"})
    assert legacy.json()["embedding"] == pytest.approx(list(two.embeddings[0]), abs=1e-6)


def test_case_37_odd_line_ends_are_read(gateway):
    answer = list(gateway.ollama.chat("double", [{"role": "user", "content": ODD}], stream=True))
    assert ODD in "".join(chunk.message.content for chunk in answer)
