"""What both clients do alike, whoever moves the bytes: what each operation sends, and how its failures are named."""

from dataclasses import dataclass
from typing import Any, Generic

from agents.ollama import errors, protocol
from agents.ollama.protocol import ItemT, ReplyStream
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest, EmbedResult, GenerateRequest, JsonObject
from core.net import errors as net_errors

# A large embedding answer: 1,000 vectors of 4,096 numbers are about 90 MB.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024

# The end of the body follows the last line at once; past this the connection is not worth keeping.
DRAIN_SECONDS = 1.0

EMBED_PATH = "/api/embed"

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Streamed(Generic[ItemT]):
    """A request whose answer comes as many lines, and the reader of these."""

    path: str
    body: JsonObject
    reply: ReplyStream[ItemT]


def chat(request: ChatRequest) -> Streamed[ChatChunk]:
    return Streamed("/api/chat", protocol.chat_body(request), protocol.chat_stream())


def generate(request: GenerateRequest) -> Streamed[ChatChunk]:
    return Streamed("/api/generate", protocol.generate_body(request), protocol.generate_stream())


def embedded(request: EmbedRequest, answer: bytes) -> EmbedResult:
    """Read the answer to an embedding; raises NotOllama unless there is a vector for each text."""
    result = protocol.parse_embed(protocol.decode_object(answer))
    if len(result.embeddings) != len(request.inputs):
        raise errors.NotOllama(f"{len(result.embeddings)} vectors for {len(request.inputs)} inputs")
    return result


_NAMES: dict[type[net_errors.NetError], type[errors.OllamaError]] = {
    net_errors.InvalidUrl: errors.ConnectFailed,
    net_errors.AddressRefused: errors.AddressRefused,
    net_errors.PoolExhausted: errors.PoolExhausted,
    net_errors.ConnectFailed: errors.ConnectFailed,
    net_errors.FirstByteTimeout: errors.FirstByteTimeout,
    net_errors.GapTimeout: errors.GapTimeout,
    net_errors.DeadlineExceeded: errors.DeadlineExceeded,
    net_errors.Interrupted: errors.Interrupted,
    net_errors.NotHttp: errors.NotOllama,
    net_errors.ResponseTooLarge: errors.NotOllama,
}


class named_failures:  # noqa: N801 - no generator, because every call comes by here
    """Turn the network's failures into Ollama's. reply: what tells whether output was handed out before."""

    __slots__ = ("_reply",)

    def __init__(self, reply: ReplyStream[Any] | None = None) -> None:
        self._reply = reply

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, errors.OllamaError):
            error.output_began = self._output_began
        elif isinstance(error, net_errors.NetError):
            named = _named(error)
            named.output_began = self._output_began
            raise named from error

    @property
    def _output_began(self) -> bool:
        return self._reply is not None and self._reply.output_began


def _named(error: net_errors.NetError) -> errors.OllamaError:
    if isinstance(error, net_errors.ConnectionLost):
        return (errors.CutStream if error.body_began else errors.ConnectionLost)(str(error))
    return _NAMES[type(error)](str(error))
