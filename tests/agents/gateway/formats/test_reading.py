"""What comes from outside is checked before anything else sees it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.formats import TEXT_FORMATS, VECTOR_FORMATS
from agents.gateway.formats.base import Failure
from agents.gateway.formats.reading import MAX_DEPTH, CallRefused, Fields, decode, decode_arguments, image
from agents.kinds.model_call import ModelCall
from agents.models import AgentVersion
from tests.agents.gateway.formats.samples import UNHURRIED

FORMATS: dict[str, Any] = TEXT_FORMATS | VECTOR_FORMATS


def read(data: bytes) -> dict[str, Any]:
    return decode(data, missing="nothing there")


@pytest.mark.parametrize("data", [b"", b" \n"])
def test_case_06_an_empty_body_is_refused_in_the_words_of_the_dialect(data: bytes) -> None:
    for path, format_ in FORMATS.items():
        with pytest.raises(CallRefused) as caught:
            format_.dialect.decode(data)
        expected = "missing request body" if path.startswith("/api") else "EOF"
        assert (caught.value.status, caught.value.detail) == (400, expected)


@pytest.mark.parametrize(
    "data",
    [
        b"{bad",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": "\x00"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"[]",
        b"null",
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_case_07_what_is_no_sound_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(CallRefused) as caught:
        read(data)
    assert caught.value.status == 400


def test_the_deepest_that_is_allowed_is_read() -> None:
    depth = MAX_DEPTH - 1
    data = b'{"a":' * depth + b"1" + b"}" * depth
    assert json.dumps(read(data)).count("a") == depth


def test_what_no_row_can_keep_becomes_the_replacement_character() -> None:
    assert read(b'{"a\\u0000": ["\\ud800", "\\udFFF b", "\xff"]}') == {"a\ufffd": ["\ufffd", "\ufffd b", "\ufffd"]}
    assert read(b'{"a": "\\ud83d\\ude42 \\\\u0000"}') == {"a": "\U0001f642 \\u0000"}


@UNHURRIED
@given(data=st.binary() | st.text().map(lambda text: json.dumps({"a": text}).encode()))
def test_bytes_are_read_as_storable_json_or_refused(data: bytes) -> None:
    try:
        value = read(data)
    except CallRefused:
        return
    assert "\x00" not in json.dumps(value, ensure_ascii=False)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_arguments_of_tool_calls_are_objects_written_as_text() -> None:
    assert decode_arguments('{"city": "K\\u00f6ln\\u0000"}', "arguments") == {"city": "Köln\ufffd"}
    assert decode_arguments("", "arguments") == {}
    for text in ("[]", "{", "1", '{"a": NaN}', '{"a":' * 70 + "1" + "}" * 70):
        with pytest.raises(CallRefused, match=r"^arguments: "):
            decode_arguments(text, "arguments")


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("text", 5),
        ("flag", "true"),
        ("flag", 1),
        ("integer", True),
        ("integer", 1.5),
        ("integer", 2**63),
        ("number", "1"),
        ("number", True),
        ("number", 10**400),
        ("items", {}),
        ("texts", ["a", None]),
        ("objects", [{}, 1]),
        ("inner", []),
        ("required", None),
    ],
)
def test_a_wrong_type_is_named_by_its_path(method: str, wrong: Any) -> None:
    fields = Fields({"field": wrong}, "outer[3]")
    with pytest.raises(CallRefused, match=r"^outer\[3\]\.field") as caught:
        getattr(fields, method)("field")
    assert caught.value.param.startswith("outer[3].field")


@pytest.mark.parametrize("method", ["text", "flag", "integer", "number", "items", "texts", "objects", "inner"])
def test_null_is_the_same_as_nothing(method: str) -> None:
    assert getattr(Fields({"field": None}), method)("field") == getattr(Fields({}), method)("field")


@pytest.mark.parametrize("data", ["", "data:image/png;base64,AAAA", "AAA", "AA==BB==", "ÄÄÄÄ", None, 5, "A A A A"])
def test_case_22_malformed_images_are_refused(data: Any) -> None:
    with pytest.raises(CallRefused, match="illegal base64") as caught:
        image(data, "images[0]")
    assert (caught.value.status, caught.value.param) == (400, "images[0]")


def test_line_ends_inside_an_image_are_dropped() -> None:
    assert image("AA\r\nAA\n", "images[0]") == "AAAA"


KEYS = st.sampled_from(
    ["model", "messages", "role", "content", "tool_calls", "function", "name", "arguments", "images", "tools", "type",
     "parameters", "format", "options", "stop", "temperature", "keep_alive", "think", "stream", "prompt", "input",
     "response_format", "json_schema", "schema", "reasoning", "effort", "stream_options", "logprobs", "top_logprobs",
     "n", "tool_choice", "text", "image_url", "url", "call_id", "output", "summary", "metadata", "include", "context",
     "raw", "suffix", "dimensions", "encoding_format", "echo", "instructions", "max_tokens", "index", "truncation"]
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "user", "assistant", "tool", "function", "text", "json", "input_text", "message"])
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@UNHURRIED
@given(body=st.dictionaries(KEYS, VALUES, max_size=8), path=st.sampled_from(sorted(FORMATS)))
def test_any_object_makes_a_call_for_the_kind_or_a_refusal(body: dict[str, Any], path: str) -> None:
    format_ = FORMATS[path]
    try:
        wanted = format_.parse(format_.dialect.decode(json.dumps(body).encode()))
    except CallRefused as caught:
        refusal = caught
    else:
        assert ModelCall().clean(wanted.call, AgentVersion()) == wanted.call
        json.dumps([wanted.call, wanted.shape], ensure_ascii=False, allow_nan=False).encode()
        return
    assert refusal.status in {400, 404, 500}
    told = json.loads(format_.dialect.error(Failure.of(refusal)))["error"]
    assert refusal.detail == (told if path.startswith("/api") else told["message"])
    assert refusal.detail


def test_every_format_says_which_model_it_does_not_find() -> None:
    for path, format_ in FORMATS.items():
        failure = format_.not_found("absent")
        assert failure.status == 404
        is_embedding = "embed" in path
        expected = 'model "absent" not found, try pulling it first' if is_embedding else "model 'absent' not found"
        assert failure.message == expected
