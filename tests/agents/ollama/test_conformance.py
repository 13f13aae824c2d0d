"""The conformance cases of Ollama's protocol, as our clients meet them. The numbers are those of the cases; the
server's side of each is in tests/ollama_server."""

import json
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jsonschema
import pytest

from agents.ollama import errors
from agents.ollama.client import OllamaClient
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest, GenerateRequest, Message
from core.net.http import HttpPool
from tests.agents.ollama.callers import Caller
from tests.ollama_server import OllamaTestServer

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def asking(text: str = "hello", *, model: str = "tinyllama", **fields: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=(Message(role="user", content=text),), **fields)


def ask(caller: Caller, text: str = "hello", *, model: str = "tinyllama", **fields: Any) -> list[ChatChunk]:
    return list(caller.chat(asking(text, model=model, **fields)))


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_case_01_an_address_without_a_scheme_is_completed(server: OllamaTestServer, pool: HttpPool) -> None:
    assert OllamaClient(f" 127.0.0.1:{server.port}/ ", pool=pool).version()


def test_case_02_it_reads_the_version(client: OllamaClient) -> None:
    assert client.version() == "0.33.0"


@pytest.mark.parametrize("path", ["nope", "api/chat"])
def test_case_03_04_an_unknown_route_means_that_this_is_no_ollama(
    server: OllamaTestServer, pool: HttpPool, path: str
) -> None:
    with pytest.raises(errors.NotOllama) as caught:
        OllamaClient(f"{server.url}/{path}", pool=pool).version()
    assert caught.value.status == 404


def test_case_05_an_empty_403_is_a_refusal(caller: Caller, server: OllamaTestServer) -> None:
    server.control(faults=[{"knobs": "status403"}])
    with pytest.raises(errors.OllamaRejected) as caught:
        ask(caller)
    assert caught.value.status == 403


def test_case_06_07_every_body_it_sends_is_json(caller: Caller) -> None:
    assert ask(caller, 'quotes " and \\ and \x00 and \ud800')[-1].done
    with pytest.raises(ValueError, match="JSON compliant"):
        ask(caller, options={"temperature": math.nan})


def test_case_08_chat_without_a_model_is_refused(caller: Caller) -> None:
    with pytest.raises(errors.OllamaRejected, match="model is required") as caught:
        ask(caller, model="")
    assert caught.value.status == 400


def test_case_09_generate_without_a_model_finds_none(caller: Caller) -> None:
    with pytest.raises(errors.ModelNotFound, match="model '' not found"):
        list(caller.generate(GenerateRequest(model="", prompt="hello")))


def test_case_10_an_unknown_model_is_named(client: OllamaClient, caller: Caller) -> None:
    with pytest.raises(errors.ModelNotFound, match="model 'absent' not found"):
        ask(caller, model="absent")
    with pytest.raises(errors.ModelNotFound, match="absent:latest"):
        client.show("absent")


def test_case_11_embedding_with_an_unknown_model_is_named(caller: Caller) -> None:
    with pytest.raises(errors.ModelNotFound, match="try pulling it first"):
        caller.embed(EmbedRequest(model="absent", inputs=("one",)))


def test_case_12_a_chat_streams_and_ends_with_its_only_done(caller: Caller) -> None:
    chunks = ask(caller)
    assert "hello" in text_of(chunks)
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].output_tokens == len(chunks) - 1


def test_case_12_generate_streams_too(caller: Caller) -> None:
    chunks = list(caller.generate(GenerateRequest(model="tinyllama", prompt="hello", system="Be brief.")))
    assert "hello" in text_of(chunks)
    assert chunks[-1].done_reason == "stop"


def test_case_13_the_last_chunk_has_durations_in_seconds(caller: Caller) -> None:
    last = ask(caller, model="double:t3-f50-d20-l40")[-1]
    assert 0.04 <= last.load_seconds < 1
    assert 0.05 <= last.prompt_eval_seconds < 1
    assert 0.04 <= last.eval_seconds < 1
    parts = last.load_seconds + last.prompt_eval_seconds + last.eval_seconds
    assert parts == pytest.approx(last.total_seconds, rel=0.05)


def test_case_14_no_messages_load_and_unload_the_model(client: OllamaClient, caller: Caller) -> None:
    (loaded,) = caller.chat(ChatRequest(model="tinyllama"))
    assert (loaded.done, loaded.done_reason) == (True, "load")
    assert [model.name for model in client.ps()] == ["tinyllama:latest"]
    (unloaded,) = caller.chat(ChatRequest(model="tinyllama", keep_alive=0))
    assert unloaded.done_reason == "unload"
    assert client.ps() == []


def test_case_15_keep_alive_reaches_the_server(client: OllamaClient, caller: Caller) -> None:
    with pytest.raises(errors.OllamaRejected, match="missing unit"):
        ask(caller, keep_alive="300")
    ask(caller, keep_alive=-1)
    (model,) = client.ps()
    assert datetime.fromisoformat(model.expires_at) > datetime.now(UTC) + timedelta(days=3650)
    assert model.context_length == 4096


def test_case_16_a_limited_answer_says_so(caller: Caller) -> None:
    last = ask(caller, options={"num_predict": 3})[-1]
    assert (last.done_reason, last.output_tokens) == ("length", 3)


@pytest.mark.parametrize("think", [True, "banana"])
def test_case_17_thinking_on_a_plain_model_is_refused(caller: Caller, think: bool | str) -> None:
    with pytest.raises(errors.OllamaRejected):
        ask(caller, think=think)


def test_case_17_thoughts_come_apart_from_the_answer(caller: Caller) -> None:
    chunks = ask(caller, model="double", think=True)
    assert "".join(chunk.thinking for chunk in chunks) == " thought0 thought1 thought2"
    assert "thought" not in text_of(chunks)


def test_case_18_tool_calls_carry_objects(caller: Caller) -> None:
    with pytest.raises(errors.OllamaRejected, match="does not support tools"):
        ask(caller, tools=(WEATHER,))
    (call,) = ask(caller, model="double", tools=(WEATHER,))[-1].tool_calls
    assert (call.name, call.arguments) == ("weather", {"city": "hello"})


def test_case_18_the_result_of_a_tool_goes_back(caller: Caller) -> None:
    (call,) = ask(caller, model="double", tools=(WEATHER,))[-1].tool_calls
    messages = (
        Message(role="user", content="hello"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="22 degrees", tool_name=call.name, tool_call_id=call.id),
    )
    request = ChatRequest(model="double", messages=messages, tools=(WEATHER,))
    assert "22 degrees" in text_of(list(caller.chat(request)))


def test_case_19_a_schema_shapes_the_answer(caller: Caller) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    jsonschema.validate(json.loads(text_of(ask(caller, format=schema))), schema)


def test_case_20_too_many_logprobs_are_refused(caller: Caller) -> None:
    with pytest.raises(errors.OllamaRejected):
        ask(caller, logprobs=True, top_logprobs=21)
    (entry,) = ask(caller, logprobs=True, top_logprobs=2)[0].logprobs
    assert len(entry["top_logprobs"]) == 2


def test_case_21_an_option_of_the_wrong_type_is_a_server_error(caller: Caller) -> None:
    with pytest.raises(errors.ServerError, match="temperature"):
        ask(caller, options={"temperature": "hot"})
    assert ask(caller, options={"no_such_option": 1})[-1].done


def test_case_22_a_malformed_image_is_refused(caller: Caller) -> None:
    message = Message(role="user", content="what is it?", images=("data:image/png;base64,AAAA",))
    with pytest.raises(errors.OllamaRejected):
        list(caller.chat(ChatRequest(model="double", messages=(message,))))


def test_case_23_a_failure_in_mid_stream_is_no_answer(caller: Caller) -> None:
    stream = caller.chat(asking(model="double:t9-error3"))
    assert [next(stream).done for _ in range(3)] == [False] * 3
    with pytest.raises(errors.StreamError, match="terminated") as caught:
        next(stream)
    assert caught.value.output_began


@pytest.mark.parametrize("tokens", [0, 3])
def test_case_24_a_silent_end_is_no_answer(caller: Caller, tokens: int) -> None:
    with pytest.raises(errors.UnfinishedStream) as caught:
        ask(caller, model=f"double:t9-eof{tokens}")
    assert caught.value.output_began is (tokens > 0)


def test_case_25_a_full_queue_is_saturation_while_a_loaded_model_waits(make_caller: Callable[..., Caller]) -> None:
    with OllamaTestServer(max_queue=0, models=["double", "tinyllama", "slow"]) as server:
        caller = make_caller(server.url)
        ask(caller)
        server.control(load_seconds=30)
        loading = caller.chat(asking(model="slow"), deadline=time.monotonic() + 20)
        holder = threading.Thread(target=_expect_loss, args=(loading,))
        holder.start()
        server.wait_for(lambda stats: stats["loads"] == 2)
        with pytest.raises(errors.Saturated) as caught:
            ask(caller, model="double")
        assert (caught.value.status, caught.value.counts_for_breaker) == (503, False)
        assert ask(caller)[-1].done
    holder.join()


def _expect_loss(stream: Any) -> None:
    with pytest.raises(errors.ConnectionLost):
        next(stream)


def test_case_26_leaving_in_mid_stream_frees_the_slot(server: OllamaTestServer, caller: Caller) -> None:
    stream = caller.chat(asking(model="double:t9999-d20"))
    next(stream)
    stream.close()
    stats = server.wait_for(lambda stats: stats["aborted"] == 1)
    assert stats["loaded"] == {"double:t9999-d20": 0}


def test_case_26_leaving_during_a_load_aborts_it(server: OllamaTestServer, caller: Caller) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        list(caller.chat(asking(model="double:l30000"), deadline=time.monotonic() + 0.05))
    server.wait_for(lambda stats: stats["loads_aborted"] == 1)


def test_case_27_embeddings_are_unit_vectors(caller: Caller) -> None:
    result = caller.embed(EmbedRequest(model="embedder", inputs=("one", "two"), dimensions=32))
    assert [math.hypot(*row) for row in result.embeddings] == pytest.approx([1.0, 1.0])
    assert [len(row) for row in result.embeddings] == [32, 32]
    assert result.prompt_tokens == 2
    assert caller.embed(EmbedRequest(model="embedder", inputs=())).embeddings == []
    with pytest.raises(errors.OllamaRejected, match="context length"):
        caller.embed(EmbedRequest(model="embedder", inputs=("word " * 9000,), truncate=False))


def test_case_28_pulling_an_unknown_model_fails_after_progress(client: OllamaClient) -> None:
    stream = client.pull("absent")
    assert next(stream).status == "pulling manifest"
    with pytest.raises(errors.StreamError, match="file does not exist"):
        next(stream)


def test_case_28_pulling_a_known_model_reports_progress(client: OllamaClient) -> None:
    steps = list(client.pull("pullable"))
    assert steps[-1].status == "success"
    assert max(step.completed_bytes for step in steps) == max(step.total_bytes for step in steps) > 0
    assert "pullable:latest" in [model.name for model in client.tags()]


def test_case_28_a_model_is_made_from_a_blob(client: OllamaClient) -> None:
    content = [b"weights", b"", b" and more"]
    digest = f"sha256:{sha256(b''.join(content)).hexdigest()}"
    assert not client.has_blob(digest)
    client.upload_blob(digest, content)
    assert client.has_blob(digest)
    assert (
        list(client.create("mine", {"files": {"model.gguf": digest}, "system": "Be brief."}))[-1].status == "success"
    )
    assert client.show("mine").system == "Be brief."


def test_case_28_a_blob_that_does_not_match_its_digest_is_refused(client: OllamaClient) -> None:
    with pytest.raises(errors.OllamaRejected, match="digest mismatch"):
        client.upload_blob(f"sha256:{'0' * 64}", [b"weights"])
    with pytest.raises(errors.OllamaRejected, match="not a digest"):
        client.has_blob("../../etc/passwd")


def test_case_29_deleting_works_once(client: OllamaClient) -> None:
    client.copy("tinyllama", "second")
    client.delete("second")
    with pytest.raises(errors.ModelNotFound):
        client.delete("second")
    with pytest.raises(errors.ModelNotFound):
        client.copy("second", "third")


def test_case_30_a_server_without_models_lists_none(server: OllamaTestServer, client: OllamaClient) -> None:
    assert len(client.tags()) == 3
    server.control(remove=["double", "tinyllama", "embedder"])
    assert client.tags() == []


def test_case_31_36_an_installed_model_is_described(client: OllamaClient) -> None:
    details = client.show("double")
    assert details.context_length == 4096
    assert "tools" in details.capabilities
    assert (details.details.family, details.details.parameter_size) == ("llama", "1B")
    (row,) = [model for model in client.tags() if model.name == "double:latest"]
    assert row.size_bytes > 0
    assert len(row.digest) == 64


def test_case_37_unusual_line_separators_stay_in_the_text(caller: Caller) -> None:
    text = "one\u2028two\u0085three\u2029four\x0bfive"
    assert text in text_of(ask(caller, text))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_case_38_split_bytes_make_identical_text(caller: Caller, size: int) -> None:
    text = "Grüße, 世界 🙂"
    assert text_of(ask(caller, text, model=f"double:split{size}")) == text_of(ask(caller, text, model="double"))
