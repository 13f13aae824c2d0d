"""The wire format without a wire."""

import json
import math
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ollama import errors, protocol
from agents.ollama.types import ChatChunk, ChatRequest, Message, ToolCall

LINES = st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")))
TEXTS = st.text(st.characters(exclude_categories=[]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at the given places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def chunk_line(text: str, **fields: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"message": message, "done": False} | fields, ensure_ascii=False).encode("utf-8", "replace")


@given(lines=LINES, tail=st.binary().map(lambda tail: tail.replace(b"\n", b"")), places=st.lists(st.integers(0)))
def test_lines_are_the_same_however_the_bytes_were_split(lines: list[bytes], tail: bytes, places: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines) + tail
    splitter = protocol.LineSplitter()
    found = [line for piece in cut(data, places) for line in splitter.feed(piece)]
    assert found == lines
    assert splitter.end() == tail


@given(texts=st.lists(TEXTS), places=st.lists(st.integers(0)), has_newline=st.booleans())
def test_an_answer_is_the_same_however_the_bytes_were_split(
    texts: list[str], places: list[int], has_newline: bool
) -> None:
    lines = [chunk_line(text) for text in texts] + [chunk_line("", done=True)]
    data = b"\n".join(lines) + b"\n" * has_newline
    stream = protocol.chat_stream()
    chunks = [chunk for piece in cut(data, places) for chunk in stream.feed(piece)] + stream.end()
    whole = "".join(json.loads(line.decode())["message"]["content"] for line in lines)
    assert "".join(chunk.text for chunk in chunks) == protocol.clean_text(whole)
    assert [chunk.done for chunk in chunks] == [False] * len(texts) + [True]


@given(data=st.binary(), places=st.lists(st.integers(0)))
def test_nonsense_never_raises_anything_but_our_errors(data: bytes, places: list[int]) -> None:
    stream = protocol.chat_stream()
    with pytest.raises(errors.OllamaUnavailable):
        read_all(stream, cut(data, places))


def read_all(stream: protocol.ReplyStream[ChatChunk], pieces: list[bytes]) -> list[ChatChunk]:
    return [chunk for piece in pieces for chunk in stream.feed(piece)] + stream.end()


KEYS = st.sampled_from(
    ["message", "content", "tool_calls", "function", "arguments", "eval_count", "logprobs", "models", "details",
     "families", "embeddings", "model_info", "version", "total"]
)  # fmt: skip
WRONG = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
PARSERS: list[Any] = [
    protocol.parse_chat_chunk,
    protocol.parse_generate_chunk,
    protocol.parse_progress,
    protocol.parse_embed,
    protocol.parse_tags,
    protocol.parse_ps,
    protocol.parse_show,
    protocol.parse_version,
]


@given(body=st.dictionaries(KEYS, WRONG))
def test_objects_of_the_wrong_shape_raise_nothing_but_not_ollama(body: dict[str, Any]) -> None:
    for parse in PARSERS:
        with suppress(errors.NotOllama):
            parse(body | {"done": True})


@given(text=TEXTS)
def test_cleaned_text_can_be_stored_and_keeps_its_length(text: str) -> None:
    cleaned = protocol.clean_text(text)
    assert "\x00" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert len(cleaned) == len(text)


def test_cleaning_reaches_the_arguments_of_tool_calls() -> None:
    call = {"function": {"name": "f\x00", "arguments": {"a\ud800": ["b\x00", {"c": "\udfff"}]}}}
    chunk = protocol.parse_chat_chunk({"message": {"tool_calls": [call]}})
    assert chunk.tool_calls == (ToolCall("f\ufffd", {"a\ufffd": ["b\ufffd", {"c": "\ufffd"}]}),)


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_LINE_BYTES", 100)
    splitter = protocol.LineSplitter()
    splitter.feed(bytes(60))
    with pytest.raises(errors.NotOllama):
        splitter.feed(bytes(60))


def test_what_came_before_a_bad_line_is_given_however_the_bytes_were_cut() -> None:
    stream = protocol.chat_stream()
    chunks = stream.feed(chunk_line("a") + b"\n" + chunk_line("b") + b'\n{"error":"it broke"}\n')
    assert not stream.output_began
    assert [next(chunks).text, next(chunks).text] == ["a", "b"]
    assert stream.output_began
    with pytest.raises(errors.StreamError, match="it broke"):
        next(chunks)


def test_lines_after_the_last_are_ignored() -> None:
    stream = protocol.chat_stream()
    chunks = list(stream.feed(chunk_line("a", done=True) + b"\n" + chunk_line("b") + b"\nnonsense\n"))
    assert [chunk.text for chunk in chunks + stream.end()] == ["a"]


@given(text=st.one_of(LINES.map(b" ".join), st.sampled_from(
    [b' {"a": NaN} \r\n', b'{"a": 1e400, "a": 123456789012345678901234567890}', b'{"a": "\\ud800\\u0000\xff"}',
     b"\xef\xbb\xbf{}", b"\x0c{}", b"{} {}", b'{"a": -0, "b": -0.0, "c": "\xed\xa0\x80"}', b"", b" ", b"[]"]
)))  # fmt: skip
def test_an_object_is_read_as_json_reads_it(text: bytes) -> None:
    try:
        expected = json.loads(text.decode("utf-8", "replace"))
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert repr(protocol.decode_object(text)) == repr(expected)
    else:
        with pytest.raises(errors.NotOllama):
            protocol.decode_object(text)


def test_deeply_nested_json_is_nonsense() -> None:
    with pytest.raises(errors.NotOllama):
        protocol.decode_object(b'{"a":' * 100_000)


@given(request=st.builds(ChatRequest, model=TEXTS, messages=st.tuples(st.builds(Message, role=TEXTS, content=TEXTS))))
def test_requests_are_ascii_and_keep_every_character(request: ChatRequest) -> None:
    data = protocol.encode(protocol.chat_body(request))
    assert data.isascii()
    assert json.loads(data)["messages"][0]["content"] == request.messages[0].content


def test_what_was_not_asked_for_is_not_sent() -> None:
    assert protocol.chat_body(ChatRequest(model="m")) == {"model": "m", "messages": [], "stream": True}


def test_false_and_zero_are_sent() -> None:
    body = protocol.chat_body(ChatRequest(model="m", think=False, keep_alive=0, truncate=False))
    assert (body["think"], body["keep_alive"], body["truncate"]) == (False, 0, False)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_say_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        protocol.encode({"options": {"temperature": number}})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gpu1", "http://gpu1:11434"),
        ("gpu1:8080", "http://gpu1:8080"),
        ("0.0.0.0", "http://0.0.0.0:11434"),
        ("http://gpu1", "http://gpu1"),
        ("https://models.example/ollama/", "https://models.example/ollama"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_addresses_are_completed_as_ollama_does(address: str, expected: str) -> None:
    assert protocol.base_url(address) == expected


@pytest.mark.parametrize(
    "address", ["", "ftp://gpu1", "http://", "http://gpu1:99999", "http://user:secret@gpu1", "gpu1?x=1", "a b", "a\nb"]
)
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # urllib words some of them
        protocol.base_url(address)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("plain", "plain"),
        ({"message": "in an object"}, "in an object"),
        ('{"error":{"message":"relayed"}}', "relayed"),
        ('{"error":"{\\"error\\":\\"twice\\"}"}', "twice"),
        ("{not json", "{not json"),
        (5, "5"),
        (["a"], '["a"]'),
        ({"code": 1}, '{"code": 1}'),
    ],
)
def test_errors_of_any_shape_become_one_text(error: Any, text: str) -> None:
    assert protocol.error_text(error) == text


def test_a_long_error_is_clipped() -> None:
    assert len(protocol.error_text("x" * 5_000)) == protocol.MAX_DETAIL_CHARACTERS + 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error":"model \'x\' not found"}', errors.ModelNotFound),
        (404, b"404 page not found", errors.NotOllama),
        (404, b'{"detail":"Not Found"}', errors.NotOllama),
        (405, b"405 method not allowed", errors.NotOllama),
        (403, b"", errors.OllamaRejected),
        (400, b'{"error":"model is required"}', errors.OllamaRejected),
        (302, b"", errors.NotOllama),
        (429, b"", errors.Saturated),
        (500, b"", errors.ServerError),
        (501, b"", errors.ServerError),
        (502, b"<html>", errors.BadGateway),
        (503, b'{"error":"server busy"}', errors.Saturated),
        (504, b"\xff\xfe", errors.BadGateway),
    ],
)
def test_a_status_is_named(status: int, body: bytes, expected: type[errors.OllamaError]) -> None:
    error = protocol.status_error(status, body)
    assert type(error) is expected
    assert error.status == status
