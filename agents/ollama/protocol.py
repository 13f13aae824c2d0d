"""Ollama's wire format without I/O: what to send, how to read what comes, and how to name what went wrong.

Any client, threaded or asynchronous, feeds the bytes it receives to these functions.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from agents.ollama import errors
from agents.ollama.types import (
    ChatChunk,
    ChatRequest,
    Details,
    EmbedRequest,
    EmbedResult,
    GenerateRequest,
    InstalledModel,
    JsonObject,
    LoadedModel,
    Message,
    ModelDetails,
    Progress,
    ToolCall,
)

DEFAULT_PORT = 11434

# A chunk is a token or a few; the largest honest line is a last one with whole tool calls.
MAX_LINE_BYTES = 32 * 1024 * 1024

MAX_DETAIL_CHARACTERS = 1_000

NANOSECONDS = 1e9

# The largest number that a database column and Go's int64 hold.
MAX_COUNT = 2**63 - 1

ItemT = TypeVar("ItemT", ChatChunk, Progress)

# PostgreSQL cannot store NUL, and UTF-8 cannot carry half a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@functools.lru_cache(maxsize=1024)
def base_url(address: str) -> str:
    """Complete an address the way Ollama reads OLLAMA_HOST: "gpu1" becomes "http://gpu1:11434".

    Raises ValueError for anything that is no http(s) address.
    """
    text = address.strip()
    has_scheme = "://" in text
    parts = urlsplit(text if has_scheme else f"http://{text}")
    is_address = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    if not is_address or not text.isprintable() or " " in text:
        raise ValueError(f"not an http address: {address!r}")
    parts = parts._replace(path=parts.path.rstrip("/"))
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must not hold credentials")
    if parts.port is None and not has_scheme:
        return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{DEFAULT_PORT}").geturl()
    return parts.geturl()


# --- what is sent ---------------------------------------------------------------------------------------------


# Ready-made, because json.dumps would make a new one for every request.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(body: JsonObject) -> bytes:
    """Serialize a request, in ASCII; raises ValueError for NaN and infinities, which JSON cannot say."""
    return _encode(body).encode("ascii")


def chat_body(request: ChatRequest, *, stream: bool = True) -> JsonObject:
    """Build the JSON of POST /api/chat."""
    body: JsonObject = {
        "model": request.model,
        "messages": [_message_body(message) for message in request.messages],
        "stream": stream,
    }
    if request.tools:
        body["tools"] = list(request.tools)
    return body | _shared_fields(request)


def generate_body(request: GenerateRequest, *, stream: bool = True) -> JsonObject:
    """Build the JSON of POST /api/generate."""
    body: JsonObject = {"model": request.model, "prompt": request.prompt, "stream": stream}
    for name in ("suffix", "system", "template"):
        if value := getattr(request, name):
            body[name] = value
    if request.raw is not None:
        body["raw"] = request.raw
    if request.images:
        body["images"] = list(request.images)
    return body | _shared_fields(request)


def embed_body(request: EmbedRequest) -> JsonObject:
    """Build the JSON of POST /api/embed."""
    body: JsonObject = {"model": request.model, "input": list(request.inputs)}
    for name in ("truncate", "dimensions", "keep_alive"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return body | {"options": request.options} if request.options else body


def _shared_fields(request: ChatRequest | GenerateRequest) -> JsonObject:
    names = ("format", "keep_alive", "think", "truncate", "logprobs", "top_logprobs")
    values = ((name, getattr(request, name)) for name in names)
    body = {name: value for name, value in values if value is not None}
    if request.options:
        body["options"] = request.options
    return body


def _message_body(message: Message) -> JsonObject:
    body: JsonObject = {"role": message.role, "content": message.content}
    for name in ("thinking", "tool_name", "tool_call_id"):
        if value := getattr(message, name):
            body[name] = value
    if message.images:
        body["images"] = list(message.images)
    if message.tool_calls:
        body["tool_calls"] = [tool_call_body(call) for call in message.tool_calls]
    return body


def tool_call_body(call: ToolCall) -> JsonObject:
    """Build the JSON of a tool call, as requests and answers hold it."""
    body: JsonObject = {"function": {"index": call.index, "name": call.name, "arguments": call.arguments}}
    return body | {"id": call.id} if call.id else body


# --- what comes back ------------------------------------------------------------------------------------------


class LineSplitter:
    """Cut a stream of bytes into lines at newline bytes and nowhere else.

    str.splitlines would also cut at U+0085, U+2028 and U+2029, which are legal inside JSON.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their newlines; raises NotOllama on an endless line."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            lines[0] = self.end() + lines[0]
        if rest:
            self._keep(rest)
        return lines

    def end(self) -> bytes:
        """Return what followed the last newline."""
        tail = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return tail

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_LINE_BYTES:
            raise errors.NotOllama(f"a line is longer than {MAX_LINE_BYTES} bytes")
        self._parts.append(data)


class ReplyStream(Generic[ItemT]):
    """Turn the bytes of a streamed reply into items, and insist on a proper end.

    output_began: whether an item that it gave carries something that the model made.
    Raises StreamError for an error line, UnfinishedStream for an end without a last item, NotOllama for nonsense.
    """

    def __init__(self, parse: Callable[[JsonObject], ItemT]) -> None:
        self._parse: Callable[[JsonObject], ItemT] = parse
        self._lines = LineSplitter()
        self.is_done = False
        self.output_began = False

    def feed(self, data: bytes) -> Iterator[ItemT]:
        """Give the items that `data` completes: those before a bad line too, however the network cut the bytes."""
        return self._items(self._lines.feed(data))

    def end(self) -> list[ItemT]:
        """Return an item that came without its newline, as load and unload do; call it at the end of the body."""
        tail = self._lines.end()
        try:
            items = list(self._items([tail]))
        except errors.NotOllama:
            if not tail.lstrip().startswith(b"{"):
                raise
            raise errors.CutStream("the answer ends in the middle of a line") from None
        if not self.is_done:
            raise errors.UnfinishedStream("the answer ended without its last line")
        return items

    def _items(self, lines: Iterable[bytes]) -> Iterator[ItemT]:
        for line in lines:
            if self.is_done or not line.strip():
                continue
            item = self._parse(_stream_object(line))
            self.is_done = item.done
            self.output_began = self.output_began or item.has_output
            yield item


def chat_stream() -> ReplyStream[ChatChunk]:
    """Read the reply to /api/chat."""
    return ReplyStream(parse_chat_chunk)


def generate_stream() -> ReplyStream[ChatChunk]:
    """Read the reply to /api/generate."""
    return ReplyStream(parse_generate_chunk)


def progress_stream() -> ReplyStream[Progress]:
    """Read the reply to /api/pull, /api/push and /api/create."""
    return ReplyStream(parse_progress)


# json.loads for each of many small lines, without its questions about what it was given. JSON's own white space.
_read = json.JSONDecoder().raw_decode
_WHITESPACE = " \t\r\n"


def decode_object(data: bytes) -> JsonObject:
    """Parse a body or line that must be one JSON object; raises NotOllama.

    Undecodable bytes become U+FFFD, as Ollama's own encoder writes them.
    """
    text = str(data, "utf-8", "replace").strip(_WHITESPACE)
    try:
        value, end = _read(text)
        if end != len(text):
            raise ValueError("there is more than one value")
    except (ValueError, RecursionError):
        raise errors.NotOllama(f"expected JSON, got {clip(data[:80].decode('utf-8', errors='replace'))!r}") from None
    if type(value) is not dict:
        raise errors.NotOllama(f"expected a JSON object, got {type(value).__name__}")
    return value


def _stream_object(line: bytes) -> JsonObject:
    value = decode_object(line)
    if "error" in value and (error := value["error"]):
        raise errors.StreamError(error_text(error))
    return value


def parse_chat_chunk(value: JsonObject) -> ChatChunk:
    """Read a line of /api/chat."""
    message = _object(value, "message")
    chunk = ChatChunk(model=_text(value, "model"), text=_text(message, "content"))
    if "thinking" in message:
        chunk.thinking = _text(message, "thinking")
    if "tool_calls" in message:
        chunk.tool_calls = tuple(map(parse_tool_call, _list(message, "tool_calls")))
    _read_rest(chunk, value)
    return chunk


def parse_generate_chunk(value: JsonObject) -> ChatChunk:
    """Read a line of /api/generate."""
    chunk = ChatChunk(model=_text(value, "model"), text=_text(value, "response"))
    if "thinking" in value:
        chunk.thinking = _text(value, "thinking")
    _read_rest(chunk, value)
    return chunk


def _read_rest(chunk: ChatChunk, value: JsonObject) -> None:
    if "logprobs" in value:
        chunk.logprobs = tuple(clean(_list(value, "logprobs")))
    if value.get("done") is True:
        chunk.done = True
        chunk.done_reason = _text(value, "done_reason")
        chunk.prompt_tokens = _count(value, "prompt_eval_count")
        chunk.output_tokens = _count(value, "eval_count")
        chunk.total_seconds = _seconds(value, "total_duration")
        chunk.load_seconds = _seconds(value, "load_duration")
        chunk.prompt_eval_seconds = _seconds(value, "prompt_eval_duration")
        chunk.eval_seconds = _seconds(value, "eval_duration")


def parse_tool_call(value: Any) -> ToolCall:
    """Read a tool call; raises NotOllama for what is none."""
    if not isinstance(value, dict):
        raise errors.NotOllama("a tool call is no object")
    function = _object(value, "function")
    return ToolCall(
        name=_text(function, "name"),
        arguments=clean(_object(function, "arguments")),
        id=_text(value, "id"),
        index=_count(function, "index"),
    )


def parse_progress(value: JsonObject) -> Progress:
    """Read a line of /api/pull, /api/push or /api/create."""
    return Progress(
        status=_text(value, "status"),
        digest=_text(value, "digest"),
        total_bytes=_count(value, "total"),
        completed_bytes=_count(value, "completed"),
    )


def parse_embed(value: JsonObject) -> EmbedResult:
    """Read the answer of /api/embed; raises NotOllama unless it holds lists of numbers."""
    rows = value.get("embeddings")
    if not isinstance(rows, list) or not all(_is_vector(row) for row in rows):
        raise errors.NotOllama("the answer holds no embeddings")
    return EmbedResult(
        model=_text(value, "model"),
        embeddings=rows,
        prompt_tokens=_count(value, "prompt_eval_count"),
        total_seconds=_seconds(value, "total_duration"),
        load_seconds=_seconds(value, "load_duration"),
    )


def _is_vector(row: Any) -> bool:
    return isinstance(row, list) and all(type(number) in {float, int} for number in row)


def parse_version(value: JsonObject) -> str:
    """Read the answer of /api/version; raises NotOllama when it names none."""
    version = _text(value, "version")
    if not version:
        raise errors.NotOllama("the answer names no version")
    return version


def parse_tags(value: JsonObject) -> list[InstalledModel]:
    """Read the answer of /api/tags, newest first."""
    return [
        InstalledModel(
            name=_text(row, "name"),
            digest=_text(row, "digest"),
            size_bytes=_count(row, "size"),
            modified_at=_text(row, "modified_at"),
            details=_details(row),
            capabilities=_texts(row, "capabilities"),
        )
        for row in _models(value)
    ]


def parse_ps(value: JsonObject) -> list[LoadedModel]:
    """Read the answer of /api/ps."""
    return [
        LoadedModel(
            name=_text(row, "name"),
            digest=_text(row, "digest"),
            size_bytes=_count(row, "size"),
            vram_bytes=_count(row, "size_vram"),
            expires_at=_text(row, "expires_at"),
            context_length=_count(row, "context_length"),
            details=_details(row),
        )
        for row in _models(value)
    ]


def parse_show(value: JsonObject) -> ModelDetails:
    """Read the answer of /api/show."""
    return ModelDetails(
        modelfile=_text(value, "modelfile"),
        parameters=_text(value, "parameters"),
        template=_text(value, "template"),
        system=_text(value, "system"),
        license=_text(value, "license"),
        modified_at=_text(value, "modified_at"),
        details=_details(value),
        capabilities=_texts(value, "capabilities"),
        model_info=clean(_object(value, "model_info")),
    )


def _models(value: JsonObject) -> list[JsonObject]:
    rows = value.get("models", [])
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise errors.NotOllama("the answer holds no list of models")
    return rows


def _details(value: JsonObject) -> Details:
    details = _object(value, "details")
    return Details(
        family=_text(details, "family"),
        families=_texts(details, "families"),
        format=_text(details, "format"),
        parameter_size=_text(details, "parameter_size"),
        quantization_level=_text(details, "quantization_level"),
        parent_model=_text(details, "parent_model"),
    )


# --- what goes wrong ------------------------------------------------------------------------------------------


def status_error(status: int, body: bytes, *, location: str = "") -> errors.OllamaError:
    """Name the failure that a status other than 2xx stands for.

    Ollama's own refusals are JSON, but for a foreign Origin or Host (403, empty) and routes it does not know.
    """
    text = _error_body(body)
    detail = text or f"HTTP status {status}"
    kind: type[errors.OllamaError]
    if 300 <= status < 400:
        return errors.NotOllama(f"redirects to {clip(location) or 'nowhere'}", status=status)
    if status == 404:
        kind = errors.NotOllama if text is None else errors.ModelNotFound
    elif status == 405 and text is None:
        kind = errors.NotOllama
    elif status in {429, 503}:
        kind = errors.Saturated
    elif status in {502, 504}:
        kind = errors.BadGateway
    elif status >= 500:
        kind = errors.ServerError
    else:
        kind = errors.OllamaRejected
    return kind(detail, status=status)


def _error_body(body: bytes) -> str | None:
    """Return the text of {"error": …}, or None when the body is something else."""
    try:
        error = decode_object(body).get("error")
    except errors.NotOllama:
        return None
    return error_text(error) if error else None


def error_text(error: Any) -> str:
    """Make one readable line of an error, which may be an object, or JSON relayed from the runner as text."""
    for _ in range(3):  # {"error": "{\"error\": {\"message\": …}}"}
        if isinstance(error, str) and error.lstrip().startswith("{"):
            try:
                error = json.loads(error)
            except (ValueError, RecursionError):
                break
        if isinstance(error, dict):
            error = error.get("message") or error.get("error") or json.dumps(error)
    return clip(error if isinstance(error, str) else json.dumps(error))


def clip(text: str) -> str:
    """Clean a foreign text and keep it short enough for a row or a log."""
    text = clean_text(text)
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}…"


# --- foreign values -------------------------------------------------------------------------------------------


def clean_text(text: str) -> str:
    """Replace what can be neither stored nor sent, NUL and lone surrogates, by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Clean every text inside a JSON value."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): clean(item) for key, item in value.items()}
    return value


def _text(value: JsonObject, key: str) -> str:
    text = value.get(key)
    if type(text) is not str:
        return ""
    return text if text.isprintable() else clean_text(text)


def _texts(value: JsonObject, key: str) -> tuple[str, ...]:
    return tuple(clean_text(item) for item in _list(value, key) if isinstance(item, str))


def _list(value: JsonObject, key: str) -> list[Any]:
    items = value.get(key)
    return items if isinstance(items, list) else []


def _object(value: JsonObject, key: str) -> JsonObject:
    item = value.get(key)
    return item if type(item) is dict else {}


def _count(value: JsonObject, key: str) -> int:
    """Ollama leaves zeros out; what is no count at all is taken for unknown, which is zero too."""
    number = value.get(key)
    return number if type(number) is int and 0 < number <= MAX_COUNT else 0


def _seconds(value: JsonObject, key: str) -> float:
    return _count(value, key) / NANOSECONDS
