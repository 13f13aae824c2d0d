"""What clients of the gateway make of answers that keep the rules of their formats, and of others."""

import json
from collections.abc import Iterable

import pytest

from bench import tasks
from bench.chaos.gateway.calls import Call, Outcome
from bench.chaos.gateway.resuming import is_whole
from bench.chaos.gateway.verdict import CallVerdict
from bench.chaos.gateway.wire import CHAT, COMPLETION, GENERATE, NATIVE_CHAT, RESPONSE, End, Heard, StreamReader, Wire

DONE = b"data: [DONE]\n\n"


def events(*items: object) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(item).encode() + b"\n\n" for item in items)


def lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def heard(wire: Wire, stream: bytes, *, size: int = 7) -> Heard:
    """What is heard of a stream that comes in small pieces."""
    result = Heard()
    reader = StreamReader(wire, result)
    for start in range(0, len(stream), size):
        reader.feed(stream[start : start + size])
    return result


def chat(text: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}}]}


def response(kind: str, number: int, **fields: object) -> dict[str, object]:
    return {"type": f"response.{kind}", "sequence_number": number, **fields}


@pytest.mark.parametrize(
    ("wire", "stream"),
    [
        (CHAT, events(chat("a"), chat("b")) + DONE),
        (COMPLETION, events({"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}) + DONE),
        (
            RESPONSE,
            events(
                response("created", 0, response={"id": "resp_1"}),
                response("output_text.delta", 1, delta="ab"),
                response("completed", 2, response={}),
            ),
        ),
        (
            NATIVE_CHAT,
            lines({"message": {"content": "ab"}, "done": False}, {"message": {"content": ""}, "done": True}),
        ),
        (GENERATE, lines({"response": "ab", "done": False}, {"response": "", "done": True})),
    ],
)
def test_a_stream_is_read_to_its_end(wire: Wire, stream: bytes) -> None:
    result = heard(wire, stream)
    assert (result.text, result.end) == ("ab", End.DONE)


@pytest.mark.parametrize(
    ("wire", "stream"),
    [
        (CHAT, events(chat("a"), {"error": {"message": "it broke", "code": "cut-stream"}})),
        (RESPONSE, events(response("failed", 0, response={"error": {"code": "cut-stream"}}))),
        (GENERATE, lines({"response": "a", "done": False}, {"error": "it broke"})),
    ],
)
def test_an_error_in_a_stream_is_its_end(wire: Wire, stream: bytes) -> None:
    assert heard(wire, stream).end is End.ERROR


def test_what_comes_after_the_end_is_noticed() -> None:
    with pytest.raises(ValueError, match="after the end"):
        heard(CHAT, events({"error": {"message": "it broke"}}) + DONE)


def ended(*, status: int = 200, text: str = "", end: End = End.NONE, cut: str = "", is_open: bool = False) -> Call:
    call = Call(CHAT, "hello", streams=True, status=status, cut=cut, ended_at=0.0 if is_open else 1.0)
    call.heard = Heard(text=text, end=end)
    return call


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (ended(text=tasks.expected_answer("hello"), end=End.DONE), Outcome.ANSWERED),
        (ended(text="other", end=End.DONE), Outcome.WRONG),
        (ended(status=503, end=End.ERROR), Outcome.REFUSED),
        (ended(text="he", end=End.ERROR), Outcome.BROKEN_OFF),
        (ended(text=tasks.expected_answer("hello"), cut="the connection ended"), Outcome.CUT_OFF),
        (ended(is_open=True), Outcome.OPEN),
    ],
)
def test_the_outcome_of_a_call_is_what_its_client_may_believe(call: Call, outcome: Outcome) -> None:
    assert call.outcome is outcome


def test_the_model_s_own_time_is_no_wait() -> None:
    stream = Call(CHAT, "[[f500-t11-d100]]", streams=True, sent_at=1.0, began_at=2.0, status=200)
    whole = Call(CHAT, "[[f500-t11-d100]]", streams=False, sent_at=1.0, began_at=3.0, status=200)
    refused = Call(CHAT, "[[f500-t11-d100]]", streams=False, sent_at=1.0, began_at=3.0, status=503)
    assert [call.waited(0.0) for call in (stream, whole, refused)] == [0.5, 0.5, 2.0]
    assert stream.waited(1.25) == 0.25


def whole(numbers: Iterable[int]) -> bool:
    return is_whole(Heard(text=tasks.expected_answer("hello"), end=End.DONE, numbers=list(numbers)), "hello")


def test_a_response_without_a_gap_is_whole() -> None:
    assert whole(range(3, 9))
    assert not whole([0, 1, 3])
    assert not whole([0, 1, 1, 2])


@pytest.mark.parametrize("name", ["unexcused", "late", "untold", "unfinished", "disagreeing"])
def test_each_count_breaks_a_requirement(name: str) -> None:
    verdict = CallVerdict("fault")
    assert verdict.broken() == {}
    setattr(verdict, name, 2)
    assert verdict.broken() == {name: 2}
    verdict.wrong["overtaken"] += 1
    assert verdict.broken() == {name: 2, "overtaken": 1}
