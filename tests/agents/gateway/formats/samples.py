"""Answers to render, and what the tests of all formats read them with."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from agents.gateway.formats.base import Encoder, Identity, Truth
from agents.ollama.protocol import clean_text
from agents.ollama.types import ChatChunk, ToolCall

TASK_ID = uuid.UUID("0199a2b4-0000-7000-8000-00000000beef")
CREATED = datetime(2026, 8, 1, 12, 30, 15, 250_000, tzinfo=UTC)
IDENTITY = Identity(TASK_ID, CREATED, "TinyLlama")
TRUTH = Truth(task_id=TASK_ID, node="gpu1", cache="miss", is_truncated=True, queue_wait_seconds=0.25)
TOLD = {
    "task": str(TASK_ID),
    "node": "gpu1",
    "cache": "miss",
    "queue_wait_seconds": 0.25,
    "truncated": True,
    "degraded": False,
}

WEATHER = ToolCall("weather", {"city": "Köln"}, id="call_abc")
LOGPROBS = (
    {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.1}]},
    {"token": "!", "logprob": -0.5},
)


def last(text: str = "", *, reason: str = "stop", **fields: Any) -> ChatChunk:
    return ChatChunk(
        model="tinyllama:latest",
        text=text,
        done=True,
        done_reason=reason,
        prompt_tokens=7,
        output_tokens=3,
        total_seconds=2.5,
        load_seconds=0.5,
        prompt_eval_seconds=0.25,
        eval_seconds=1.5,
        **fields,
    )


def answer(*texts: str, reason: str = "stop") -> list[ChatChunk]:
    """An answer that comes in these pieces, and its end."""
    return [*(ChatChunk(text=text) for text in texts), last(reason=reason)]


def lines_of(data: bytes) -> list[dict[str, Any]]:
    """Read lines of JSON as the strictest of clients does, which splits at every line end that there is."""
    return [json.loads(line) for line in data.decode("ascii").splitlines()]


def events_of(data: bytes) -> list[Any]:
    """Read server-sent events: their data, "[DONE]" as it is."""
    *events, rest = data.decode("ascii").split("\n\n")
    assert rest == ""
    found = [event.splitlines()[-1].removeprefix("data: ") for event in events]
    return [text if text == "[DONE]" else json.loads(text) for text in found]


# --- for properties -------------------------------------------------------------------------------------------

# How long an example takes says nothing: other tests run beside it.
UNHURRIED = settings(deadline=None)

TEXTS = st.text().map(clean_text)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.builds(
    ToolCall,
    name=TEXTS,
    arguments=st.dictionaries(TEXTS, JSON_VALUES, max_size=2),
    id=st.sampled_from(["", "call_0", "call_1"]),
    index=st.integers(0, 3),
)
CHUNKS = st.builds(ChatChunk, text=TEXTS, thinking=TEXTS, tool_calls=st.lists(CALLS, max_size=2).map(tuple))
ENDS = st.builds(
    last,
    text=TEXTS,
    reason=st.sampled_from(["stop", "length"]),
    thinking=TEXTS,
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
)
ANSWERS = st.builds(lambda chunks, end: [*chunks, end], st.lists(CHUNKS, max_size=6), ENDS)


def streamed(encoder: Encoder, chunks: list[ChatChunk]) -> bytes:
    """The stream of an answer, as a door sends it."""
    start = encoder.start()
    sent = [encoder.end(chunk, TRUTH) if chunk.done else encoder.piece(chunk) for chunk in chunks]
    assert encoder.is_over
    return b"".join([start, *sent])
