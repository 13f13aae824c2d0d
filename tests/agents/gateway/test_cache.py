"""Answers given again, and calls that share one answer, through the real program in both lanes."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest


def body(text: str, **more: object) -> dict[str, object]:
    return {"model": "double", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def asked(gateway) -> int:
    """How many chats the model server was asked for."""
    return int(gateway.server.stats()["requests_by_path"].get("/api/chat", 0))


def test_the_same_call_at_temperature_0_is_answered_from_the_cache(gateway):
    call = body(f"again {uuid.uuid4()}")
    first = gateway.ask("POST", "/v1/chat/completions", call)
    before = asked(gateway)
    second = gateway.ask("POST", "/v1/chat/completions", call)
    assert asked(gateway) == before
    assert (first.headers.get("X-SutazAI-Cache"), second.headers["X-SutazAI-Cache"]) == (None, "hit")
    assert second.json()["choices"] == first.json()["choices"]
    assert second.json()["usage"] == first.json()["usage"]
    assert second.json()["sutazai"]["cache"] == "hit"
    own = second.headers["X-SutazAI-Task"]
    assert own != first.headers["X-SutazAI-Task"]
    task = gateway.ask("GET", f"/api/v1/tasks/{own}").json()
    assert (task["status"], task["result"]) == ("succeeded", first.json()["choices"][0]["message"]["content"])
    streamed = gateway.ask("POST", "/v1/chat/completions", {**call, "stream": True})
    assert first.json()["choices"][0]["message"]["content"].split()[-1] in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert asked(gateway) == before


@pytest.mark.parametrize("change", [{"temperature": 0.5}, {"seed": 7}, {"max_tokens": 5}, {"model": "tinyllama"}])
def test_another_call_is_another_answer(gateway, change):
    call = body(f"other {uuid.uuid4()}")
    gateway.ask("POST", "/v1/chat/completions", call)
    assert "X-SutazAI-Cache" not in gateway.ask("POST", "/v1/chat/completions", {**call, **change}).headers


def test_what_varies_is_never_given_again_unasked(gateway):
    call = {**body(f"varies {uuid.uuid4()}"), "temperature": 1}
    answers = [gateway.ask("POST", "/v1/chat/completions", call) for _ in range(2)]
    assert all("X-SutazAI-Cache" not in answer.headers for answer in answers)


def test_invalidating_a_tag_makes_it_ask_again(gateway):
    call = body(f"invalid {uuid.uuid4()}")
    gateway.ask("POST", "/v1/chat/completions", call)
    assert gateway.ask("POST", "/v1/chat/completions", call).headers["X-SutazAI-Cache"] == "hit"
    assert gateway.ask("POST", "/api/v1/cache/invalidate/", {"tag": "model:double:latest"}).ok
    assert "X-SutazAI-Cache" not in gateway.ask("POST", "/v1/chat/completions", call).headers


def test_twenty_equal_calls_at_once_ask_the_model_once(gateway):
    call = body(f"[[t5-f500]] together {uuid.uuid4()}")
    before = asked(gateway)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: gateway.ask("POST", "/v1/chat/completions", call), range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert asked(gateway) == before + 1
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len({answer.headers["X-SutazAI-Task"] for answer in answers}) == 20
    kinds = [answer.headers.get("X-SutazAI-Cache", "made") for answer in answers]
    assert kinds.count("made") == 1
    assert set(kinds) <= {"made", "shared", "hit"}


def test_embeddings_are_given_again(gateway):
    call = {"model": "embedder", "input": [f"vector {uuid.uuid4()}"]}
    first = gateway.ask("POST", "/v1/embeddings", call)
    second = gateway.ask("POST", "/v1/embeddings", call)
    assert second.headers["X-SutazAI-Cache"] == "hit"
    assert second.json()["data"] == first.json()["data"]
