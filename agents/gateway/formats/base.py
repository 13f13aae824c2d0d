"""What the wire formats share: how a call is wanted, whose answer it is, how that goes out.

A format reads a client's call and writes its answer, without a socket, a database or a clock. A door uses one so:

    form = TEXT_FORMATS["/v1/chat/completions"]
    try:
        wanted = form.parse(form.dialect.decode(body))
        …                                       # submit wanted.call to the model or agent wanted.model
    except Refused as refusal:                  # so for every failure before the first chunk
        return refusal.status, JSON, form.dialect.error(Failure.of(refusal))
    encoder = form.encoder(Identity(task.id, task.created_at, wanted.model), wanted.shape)
    if not wanted.streams:
        return 200, JSON, encoder.whole(chunks, truth)
    send(200, encoder.stream_type, encoder.start())
    for chunk in chunks:                        # b"" means that there is nothing to send
        send(encoder.end(chunk, truth) if chunk.done else encoder.piece(chunk))

Afterwards `failure` tells what went wrong in mid-stream and `restart` that the run began anew; `is_over` says when to
close. In silences `keep_alive` may be sent. Formats whose answers are vectors have `whole` alone.
"""

import json
import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring_ascii
from typing import Any, ClassVar, Generic, TypeVar

from agents.gateway.formats import reading
from agents.gateway.formats.reading import CallRefused
from agents.ollama.types import ChatChunk, JsonObject
from core.exceptions import Refused

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
PLAIN = "text/plain"

# What Ollama's server says itself, in plain text.
RUNNING = b"Ollama is running"
NO_SUCH_PAGE = b"404 page not found"
NO_SUCH_METHOD = b"405 method not allowed"

EncoderT_co = TypeVar("EncoderT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call as its client wants it.

    model: as the client spells it; "agent:NAME" means an agent.
    call: the body of Ollama's own request, with "operation" (chat, generate or embed), without model and stream, and
        only with what the client gave, so that the model's own defaults hold for the rest.
    streams: whether the answer goes out piece by piece.
    shape: what the encoder must know. JSON, so that it can be kept for a client that comes back.
    is_background: the client does not wait, and will ask for the answer by its id.
    ignored: fields that would have changed the answer elsewhere and change nothing here.
    """

    model: str
    call: JsonObject
    streams: bool = False
    shape: JsonObject = field(default_factory=dict)
    is_background: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose answer it is. model: as the client spelled it."""

    task_id: uuid.UUID
    created: datetime
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What there is to say about an answer beside the answer; empty and None are left out.

    tasks: all that made the answer, where there were several; task_id is the first of them.
    cache: "hit", "miss" and whatever else the cache calls it. finished_at: where a format tells of the end.
    """

    task_id: uuid.UUID
    tasks: tuple[uuid.UUID, ...] = ()
    node: str = ""
    cache: str = ""
    is_truncated: bool = False
    is_degraded: bool = False
    queue_wait_seconds: float | None = None
    finished_at: datetime | None = None

    def body(self) -> JsonObject:
        """The object that answers carry under "sutazai"."""
        known: JsonObject = {"task": str(self.task_id)}
        if len(self.tasks) > 1:
            known["tasks"] = list(map(str, self.tasks))
        if self.node:
            known["node"] = self.node
        if self.cache:
            known["cache"] = self.cache
        if self.queue_wait_seconds is not None:
            known["queue_wait_seconds"] = round(self.queue_wait_seconds, 6)
        return known | {"truncated": self.is_truncated, "degraded": self.is_degraded}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer. param: the field at fault. code: stable, for programs."""

    status: int
    message: str
    param: str = ""
    code: str = ""

    @classmethod
    def of(cls, refusal: Refused) -> "Failure":
        if isinstance(refusal, CallRefused):  # its text says all there is to know
            return cls(status=refusal.status, message=refusal.detail, param=refusal.param)
        return cls(status=refusal.status, message=refusal.detail, code=refusal.code)

    @property
    def type(self) -> str:
        """What Ollama's OpenAI endpoints call it."""
        return {400: "invalid_request_error", 404: "not_found_error"}.get(self.status, "api_error")


RESTARTED = Failure(
    status=502,
    message="The run was interrupted and began anew: what was sent so far is void. Ask again for the whole answer.",
    code="restarted",
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family of formats words what is no answer. missing_body: what it says to an empty request."""

    missing_body: str
    error: Callable[[Failure], bytes]

    def decode(self, data: bytes) -> JsonObject:
        """Parse the body of a request. Raises CallRefused."""
        return reading.decode(data, missing=self.missing_body)


@dataclass(frozen=True, slots=True)
class Format(Generic[EncoderT_co]):
    """A wire format. parse raises CallRefused. not_found: how it says that there is no such model."""

    dialect: Dialect
    parse: Callable[[JsonObject], Wanted]
    encoder: Callable[[Identity, JsonObject], EncoderT_co]
    not_found: Callable[[str], Failure]


class Encoder(ABC):
    """Writes one answer made of text.

    Feed it pieces in the order in which they were made, the last to `end`; or all of them to `whole`.
    has_begun: something that the model made was sent. is_over: nothing more may be sent.
    """

    stream_type: ClassVar[str]
    # What may be sent in silences; empty where there is nothing that clients would skip.
    keep_alive: ClassVar[bytes] = b""

    def __init__(self, identity: Identity, shape: JsonObject) -> None:
        self.identity = identity
        self.shape = shape
        self.has_begun = False
        self.is_over = False

    def start(self) -> bytes:
        """What goes ahead of the first piece."""
        return b""

    @abstractmethod
    def piece(self, chunk: ChatChunk) -> bytes:
        """A piece that is not the last."""

    @abstractmethod
    def end(self, chunk: ChatChunk, truth: Truth) -> bytes:
        """The last piece, and what ends a stream well."""

    @abstractmethod
    def failure(self, failure: Failure) -> bytes:
        """The end of a stream that failed after it began."""

    @abstractmethod
    def whole(self, chunks: Iterable[ChatChunk], truth: Truth) -> bytes:
        """The answer at once. Raises ValueError unless the last chunk is a last one."""

    def restart(self) -> bytes:
        """The run began anew: the failure that ends the stream, or nothing if the client has not seen any of it."""
        return self.failure(RESTARTED) if self.has_begun else b""


def gather(chunks: Iterable[ChatChunk]) -> ChatChunk:
    """Make one chunk of a whole answer. Raises ValueError if its end is missing."""
    pieces = list(chunks)
    if not pieces or not pieces[-1].done:
        raise ValueError("the answer has no end")
    last = pieces[-1]
    return ChatChunk(
        model=last.model,
        text="".join(piece.text for piece in pieces),
        thinking="".join(piece.thinking for piece in pieces),
        tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        done=True,
        done_reason=last.done_reason,
        prompt_tokens=last.prompt_tokens,
        output_tokens=last.output_tokens,
        total_seconds=last.total_seconds,
        load_seconds=last.load_seconds,
        prompt_eval_seconds=last.prompt_eval_seconds,
        eval_seconds=last.eval_seconds,
    )


# Ready-made, because json.dumps would make a new one for every token. ASCII: the official clients cut lines at U+0085
# and U+2028 as well.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


# A text, as `to_json` writes it: what streams are made of.
text_to_json: Callable[[str], str] = encode_basestring_ascii


def to_json(value: Any) -> str:
    """Write JSON in ASCII. Numbers that it cannot say, which only a broken model server sends, become null."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_sayable(value))


def _sayable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value


def to_bytes(value: Any) -> bytes:
    return to_json(value).encode("ascii")
