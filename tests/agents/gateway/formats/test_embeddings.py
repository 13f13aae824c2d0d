"""Embeddings in Ollama's two formats and OpenAI's. Numbers are those of the protocol's conformance cases."""

import base64
import json
import math
import struct
from array import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.gateway.formats import ollama_embed, openai_embeddings, vectors
from agents.gateway.formats.base import Wanted
from agents.gateway.formats.reading import CallRefused
from agents.gateway.formats.vectors import Embedded
from tests.agents.gateway.formats.samples import IDENTITY, TOLD, TRUTH, UNHURRIED

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def packed(*rows: list[float], **figures: Any) -> Embedded:
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    return Embedded(packed=data, count=len(rows), **figures)


def native(**body: Any) -> Wanted:
    return ollama_embed.FORMAT.parse({"model": "m", **body})


def compatible(**body: Any) -> Wanted:
    return openai_embeddings.FORMAT.parse({"model": "m", "input": "a", **body})


def told(answer: Embedded, *, is_base64: bool) -> Any:
    encoder = openai_embeddings.FORMAT.encoder(IDENTITY, {"is_base64": is_base64})
    return json.loads(encoder.whole(answer, TRUTH))


# --- Ollama's -------------------------------------------------------------------------------------------------


def test_case_11_an_unknown_model_hints_at_pulling() -> None:
    for format_ in (ollama_embed.FORMAT, ollama_embed.LEGACY_FORMAT):
        told_ = json.loads(format_.dialect.error(format_.not_found("absent")))
        assert told_ == {"error": 'model "absent" not found, try pulling it first'}


def test_everything_that_embed_takes_is_passed_on() -> None:
    body = {"input": ["a", ""], "truncate": False, "dimensions": 8, "keep_alive": "5m", "options": {"seed": 1}}
    wanted = native(**body)
    assert wanted.call == {"operation": "embed", **body}
    assert not wanted.streams
    assert native(input="a", options={"num_ctx": 5}).ignored == ("options.num_ctx",)


@pytest.mark.parametrize("value", [None, "", []])
def test_case_27_no_input_has_no_vectors(value: Any) -> None:
    assert native(input=value).call["input"] == []
    encoder = ollama_embed.FORMAT.encoder(IDENTITY, {})
    assert json.loads(encoder.whole(packed(), TRUTH)) == {"model": "TinyLlama", "embeddings": [], "sutazai": TOLD}


def test_case_27_each_text_has_its_vector() -> None:
    answer = packed([1.0, 0.0], [0.6, 0.8], prompt_tokens=4, total_seconds=0.5, load_seconds=0.25)
    value = json.loads(ollama_embed.FORMAT.encoder(IDENTITY, {}).whole(answer, TRUTH))
    assert [math.hypot(*row) for row in value.pop("embeddings")] == pytest.approx([1.0, 1.0])
    figures = {"total_duration": 500_000_000, "load_duration": 250_000_000, "prompt_eval_count": 4}
    assert value == {"model": "TinyLlama", **figures, "sutazai": TOLD}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": ""}, 404),
        ({"input": 5}, 400),
        ({"input": ["a", 5]}, 400),
        ({"input": {"a": 1}}, 400),
        ({"input": ["a"] * (vectors.MAX_INPUTS + 1)}, 400),
        ({"dimensions": -1}, 400),
        ({"truncate": "no"}, 400),
        ({"options": {"seed": "x"}}, 500),
        ({"keep_alive": "300"}, 400),
    ],
)
def test_a_wrong_field_is_refused(body: dict[str, Any], status: int) -> None:
    with pytest.raises(CallRefused) as caught:
        native(**body)
    assert caught.value.status == status


def test_the_older_form_has_one_prompt_and_one_vector() -> None:
    format_ = ollama_embed.LEGACY_FORMAT
    assert format_.parse({"model": "m", "prompt": "a"}).call == {"operation": "embed", "input": ["a"]}
    assert format_.parse({"model": "m"}).call["input"] == []
    with pytest.raises(CallRefused, match="model is required"):
        format_.parse({"prompt": "a"})
    encoder = format_.encoder(IDENTITY, {})
    assert json.loads(encoder.whole(packed([0.5, 2.0]), TRUTH)) == {"embedding": [0.5, 2.0], "sutazai": TOLD}
    assert json.loads(encoder.whole(packed(), TRUTH))["embedding"] == []


# --- OpenAI's -------------------------------------------------------------------------------------------------


def test_a_request_becomes_ollamas() -> None:
    wanted = compatible(input="", dimensions=8, user="u", encoding_format="BASE64")
    assert wanted.call == {"operation": "embed", "input": [""], "dimensions": 8}
    assert wanted.shape == {"is_base64": True}
    assert compatible(input=["a", "b"]).shape == {"is_base64": False}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1], [2]]}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(CallRefused) as caught:
        compatible(**body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_the_answer_is_a_list_with_the_usage() -> None:
    value = told(packed([1.0], [2.0], prompt_tokens=4), is_base64=False)
    assert value == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0]},
        ],
        "model": "TinyLlama",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
        "sutazai": TOLD,
    }


@UNHURRIED
@given(rows=st.lists(st.lists(FLOATS, min_size=3, max_size=3), max_size=4))
@example(rows=[[-0.10277656465768814, 0.0, 1.0]])  # one of the few that eight digits do not give back
def test_case_36_both_encodings_give_the_very_same_numbers(rows: list[list[float]]) -> None:
    answer = packed(*rows)
    plain = [row["embedding"] for row in told(answer, is_base64=False)["data"]]
    data = [base64.b64decode(row["embedding"]) for row in told(answer, is_base64=True)["data"]]
    assert [list(struct.unpack("<3f", row)) for row in data] == rows
    assert [array("f", row).tolist() for row in plain] == rows


# --- what tasks keep ------------------------------------------------------------------------------------------


def test_a_tasks_output_is_read_and_checked() -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    output = {"embeddings": base64.b64encode(data).decode(), "dimensions": 2, "count": 2}
    answer = Embedded.from_output(output, prompt_tokens=5)
    assert [struct.unpack("<2f", row) for row in answer.rows()] == [(1, 2), (3, 4)]
    assert answer.prompt_tokens == 5
    with pytest.raises(ValueError, match="size"):
        Embedded.from_output({**output, "count": 3})


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_vectors_that_are_no_numbers_are_no_answer(wrong: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        told(packed([1.0, wrong]), is_base64=False)
