"""What Ollama's own formats have in common: reading requests with its rules and refusals, writing its lines."""

import re
from abc import abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

from agents.gateway.formats.base import (
    NDJSON,
    Dialect,
    Encoder,
    Failure,
    Identity,
    Truth,
    gather,
    text_to_json,
    to_bytes,
    to_json,
)
from agents.gateway.formats.reading import CallRefused, Fields
from agents.ollama.protocol import MAX_COUNT, NANOSECONDS
from agents.ollama.types import LOAD_OPTIONS, ChatChunk, JsonObject

INTEGER_OPTIONS = frozenset({"num_keep", "num_predict", "repeat_last_n", "seed", "top_k"})
FLOAT_OPTIONS = frozenset(
    {"frequency_penalty", "min_p", "presence_penalty", "repeat_penalty", "temperature", "top_p", "typical_p"}
)
LOAD_INTEGER_OPTIONS = frozenset({"draft_num_predict", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_thread"})

# As Go's time.ParseDuration reads it.
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
MAX_DURATION_CHARACTERS = 40

THINK_LEVELS = ("low", "medium", "high", "max")


def error(failure: Failure) -> bytes:
    return to_bytes({"error": failure.message})


DIALECT = Dialect("missing request body", error)


def model_missing(name: str) -> Failure:
    """There is no such model, as chat and generate say it; so do show and /v1/models/{id}, but with the name's tag."""
    return Failure(status=404, message=f"model '{name}' not found", param="model", code="model-not-found")


def embedder_missing(name: str) -> Failure:
    """There is no such model, as embed says it."""
    message = f'model "{name}" not found, try pulling it first'
    return Failure(status=404, message=message, param="model", code="model-not-found")


# --- what is asked --------------------------------------------------------------------------------------------


def required_model(fields: Fields) -> str:
    name = fields.model()
    if not name:
        raise CallRefused("model is required", param="model")
    return name


def found_model(fields: Fields) -> str:
    """A model's name where Ollama takes none for the name of one that it does not have."""
    name = fields.model()
    if not name:
        raise CallRefused("model '' not found", status=404, param="model")
    return name


def generation_fields(fields: Fields) -> tuple[JsonObject, tuple[str, ...]]:
    """What chat and generate both take, as it was given; and the names of what is ignored."""
    call, ignored = runtime_fields(fields)
    if (wanted := answer_format(fields)) is not None:
        call["format"] = wanted
    if (think := fields.value.get("think")) is not None:
        call["think"] = _checked_think(think)
    for name in ("truncate", "logprobs"):
        if (flag := fields.flag(name)) is not None:
            call[name] = flag
    if (top := top_logprobs(fields)) is not None:
        call["top_logprobs"] = top
    # Like a load-time option it would have the model loaded anew.
    return call, (*ignored, "shift") if fields.flag("shift") is False else ignored


def runtime_fields(fields: Fields) -> tuple[JsonObject, tuple[str, ...]]:
    """What embed takes, too: options and keep_alive."""
    options, ignored = _options(fields)
    call: JsonObject = {"options": options} if options else {}
    if (keep_alive := fields.value.get("keep_alive")) is not None:
        call["keep_alive"] = _checked_keep_alive(keep_alive)
    return call, ignored


def _options(fields: Fields) -> tuple[JsonObject, tuple[str, ...]]:
    """Read the options. Those that are unknown here are passed on, since a newer Ollama may know them."""
    options = fields.inner("options")
    given = {} if options is None else {name: value for name, value in options.value.items() if value is not None}
    for name, value in given.items():
        if kind := _wrong_option(name, value):
            raise CallRefused(f'option "{name}" must be of {kind}', status=500, param=f"options.{name}")
    kept = {name: value for name, value in given.items() if name not in LOAD_OPTIONS and _is_plain(value)}
    return kept, tuple(f"options.{name}" for name in given if name not in kept)


def _is_plain(value: Any) -> bool:
    """No option is more than a value or a list of texts."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return not isinstance(value, dict)


def _wrong_option(name: str, value: Any) -> str:
    """What an option should have been; empty if it is right."""
    is_number = type(value) in {int, float} and -MAX_COUNT <= value <= MAX_COUNT
    if name in INTEGER_OPTIONS | LOAD_INTEGER_OPTIONS and not is_number:
        return "type integer"
    if name in FLOAT_OPTIONS and not is_number:
        return "type float32"
    if name == "use_mmap" and not isinstance(value, bool):
        return "type boolean"
    if name == "stop" and not isinstance(value, list):
        return "type array"
    if name == "stop" and not all(isinstance(item, str) for item in value):
        return "an array of strings"
    return ""


def _checked_keep_alive(value: Any) -> float | str:
    if isinstance(value, str):
        if len(value) <= MAX_DURATION_CHARACTERS and _DURATION.fullmatch(value):
            return value
        shown = value[:MAX_DURATION_CHARACTERS]
        fault = "missing unit in" if _NUMBER.fullmatch(shown) else "invalid"
        raise CallRefused(f'time: {fault} duration "{shown}"', param="keep_alive")
    if type(value) not in {int, float} or not -MAX_COUNT <= value <= MAX_COUNT:
        raise CallRefused("keep_alive: must be a number of seconds or a duration", param="keep_alive")
    return value  # type: ignore[no-any-return]


def _checked_think(value: Any) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value in THINK_LEVELS):
        return value
    allowed = 'must be "high", "medium", "low", "max", true, or false'
    shown = f'invalid think value: "{value[:40]}" ({allowed})' if isinstance(value, str) else f"think {allowed}"
    raise CallRefused(shown, param="think")


def answer_format(fields: Fields) -> str | JsonObject | None:
    """ "json", a JSON schema, or None; null and "" are none."""
    wanted = fields.value.get("format")
    if wanted is None or wanted == "":
        return None
    if wanted == "json" or isinstance(wanted, dict):
        return wanted  # type: ignore[no-any-return]
    text = f'invalid format: {to_json(wanted)[:80]}; expected "json" or a valid JSON Schema object'
    raise CallRefused(text, status=500, param="format")


def top_logprobs(fields: Fields) -> int | None:
    number = fields.integer("top_logprobs")
    if number is not None and not 0 <= number <= 20:
        raise CallRefused("top_logprobs must be between 0 and 20", param="top_logprobs")
    return number


# --- what is answered -----------------------------------------------------------------------------------------


def timestamp(moment: datetime) -> str:
    """A moment as Go writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def durations(**seconds: float) -> JsonObject:
    """Durations in whole nanoseconds; zeros are left out."""
    return {name: round(value * NANOSECONDS) for name, value in seconds.items() if value > 0}


class LineEncoder(Encoder):
    """Writes lines of JSON. `body` makes of a piece what stands between a line's head and its end."""

    stream_type: ClassVar[str] = NDJSON

    # Lines whose only content is text are cut around the text, which saves nine tenths of the time they take.
    text_body: ClassVar[str]

    def __init__(self, identity: Identity, shape: JsonObject) -> None:
        super().__init__(identity, shape)
        # Ollama stamps each line with its own moment; ours all carry the call's, so that a stream can be repeated.
        self._head: JsonObject = {"model": identity.model, "created_at": timestamp(identity.created)}
        before, after = self.text_body.split("TEXT")
        self._before = f"{to_json(self._head)[:-1]},{before}"
        self._after = f'{after},"done":false}}\n'

    @staticmethod
    @abstractmethod
    def body(chunk: ChatChunk) -> JsonObject:
        """The fields that carry what the model made."""

    def piece(self, chunk: ChatChunk) -> bytes:
        if chunk.thinking or chunk.tool_calls or chunk.logprobs:
            self.has_begun = True
            return to_bytes(self._head | self._content(chunk) | {"done": False}) + b"\n"
        if not chunk.text:
            return b""
        self.has_begun = True
        return f"{self._before}{text_to_json(chunk.text)}{self._after}".encode("ascii")

    def end(self, chunk: ChatChunk, truth: Truth) -> bytes:
        self.is_over = True
        return self._last(chunk, truth) + b"\n"

    def failure(self, failure: Failure) -> bytes:
        self.is_over = True
        return error(failure) + b"\n"

    def whole(self, chunks: Iterable[ChatChunk], truth: Truth) -> bytes:
        return self._last(gather(chunks), truth)

    def _content(self, chunk: ChatChunk) -> JsonObject:
        body = self.body(chunk)
        return body | {"logprobs": list(chunk.logprobs)} if chunk.logprobs else body

    def _last(self, chunk: ChatChunk, truth: Truth) -> bytes:
        counts = {"prompt_eval_count": chunk.prompt_tokens, "eval_count": chunk.output_tokens}
        figures = durations(
            total_duration=chunk.total_seconds,
            load_duration=chunk.load_seconds,
            prompt_eval_duration=chunk.prompt_eval_seconds,
            eval_duration=chunk.eval_seconds,
        )
        reason: JsonObject = {"done_reason": chunk.done_reason} if chunk.done_reason else {}
        return to_bytes(
            {
                **self._head,
                **self._content(chunk),
                "done": True,
                **reason,
                **figures,
                **{name: count for name, count in counts.items() if count},
                "sutazai": truth.body(),
            }
        )
