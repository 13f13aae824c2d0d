"""What OpenAI's formats have in common: how their requests become Ollama's, and how their answers are written.

Read as Ollama's own OpenAI endpoints read them, but for what those pass over in silence: it is honoured where Ollama
can do it, refused where the answer would be another than the one that was asked for, and otherwise named as ignored.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from agents.gateway.formats.base import EVENTS, Dialect, Encoder, Failure, to_bytes, to_json
from agents.gateway.formats.reading import CallRefused, Fields, image
from agents.ollama.types import ChatChunk, JsonObject, ToolCall

FINGERPRINT = "fp_ollama"
DONE = b"data: [DONE]\n\n"

# Clients' scales of effort go beyond Ollama's at both ends.
EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}

_DATA_URI = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,")
_NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_SAMPLING = frozenset({*_NUMBERS, "seed", "stop"})
_IGNORED = ("keep_alive", "logit_bias", "options", "verbosity")
_MAY_BE_IGNORED = frozenset({*_IGNORED, "parallel_tool_calls"})


def error_object(failure: Failure) -> JsonObject:
    error = {"message": failure.message, "type": failure.type}
    return {"error": {**error, "param": failure.param or None, "code": failure.code or None}}


def error(failure: Failure) -> bytes:
    return to_bytes(error_object(failure))


DIALECT = Dialect("EOF", error)


# --- what is asked --------------------------------------------------------------------------------------------


def sampling(fields: Fields, *limits: str) -> JsonObject:
    """Read the options of an answer. limits: the names of the limit on its tokens, the first that is given counts.

    What was left out stays out. Ollama's own endpoints send temperature and top_p as 1.0 then, and so override what
    the model's author or an operator has set.
    """
    return _sampling(fields, limits) if fields.names_any(_SAMPLING | {*limits}) else {}


def _sampling(fields: Fields, limits: Sequence[str]) -> JsonObject:
    options: JsonObject = {}
    for name in _NUMBERS:
        if (number := fields.number(name)) is not None:
            options[name] = number
    if (seed := fields.integer("seed")) is not None:
        options["seed"] = seed
    if stop := _stop(fields):
        options["stop"] = stop
    for name in limits:
        if (limit := fields.integer(name, least=-2)) is not None:
            if limit == 0:
                raise fields.refusal(name, "must be at least 1, or -1 for no limit")
            options.setdefault("num_predict", limit)
    return options


def _stop(fields: Fields) -> list[str]:
    stop = fields.value.get("stop")
    if isinstance(stop, str):
        return [stop]
    if stop is not None and not (isinstance(stop, list) and all(isinstance(text, str) for text in stop)):
        raise fields.refusal("stop", "must be a string or a list of strings")
    return stop or []


def think(fields: Fields, name: str) -> JsonObject:
    """Read the effort of reasoning as Ollama's `think`; nothing if it is not given."""
    effort = fields.choice(name, tuple(EFFORTS))
    return {"think": EFFORTS[effort]} if effort else {}


def schema_format(fields: Fields | None) -> JsonObject:
    """Read a wish for JSON. fields: an object with the `type` and, if that is json_schema, the `schema`."""
    if fields is None:
        return {}
    kind = fields.choice("type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        return {"format": "json"}
    return {"format": fields.required("schema").value} if kind == "json_schema" else {}


def wants_tools(fields: Fields) -> bool:
    """Whether the model may call tools. Nothing makes a model behind Ollama call one, so that must not be promised."""
    choice = fields.value.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise fields.refusal("tool_choice", 'must be "auto" or "none"; no model here can be made to call a tool')
    return choice != "none"


def refuse(fields: Fields, reasons: Mapping[str, str]) -> None:
    """Refuse fields that ask for what cannot be had here."""
    if reasons.keys().isdisjoint(fields.value):
        return
    for name, reason in reasons.items():
        if fields.value.get(name) not in (None, False, [], {}):
            raise fields.refusal(name, reason)


def refuse_several(fields: Fields, name: str) -> None:
    """Refuse to give more than one answer."""
    if fields.integer(name) not in {None, 1}:
        raise fields.refusal(name, "must be 1; send several requests for several answers")


def ignored_fields(fields: Fields) -> tuple[str, ...]:
    """Name the fields that would have changed the answer elsewhere."""
    if not fields.names_any(_MAY_BE_IGNORED):
        return ()
    ignored = tuple(name for name in _IGNORED if fields.value.get(name) not in (None, [], {}))
    return (*ignored, "parallel_tool_calls") if fields.flag("parallel_tool_calls") is False else ignored


def includes_usage(fields: Fields) -> bool:
    options = fields.inner("stream_options")
    return options is not None and bool(options.flag("include_usage"))


def data_uri(url: str, path: str) -> str:
    """Take the base64 out of an image's data URI. Nothing is fetched for callers: they would reach our network so."""
    if url.startswith(("http://", "https://")):
        text = "image URLs are not currently supported, please use base64 encoded data instead"
        raise CallRefused(f"{path}: {text}", param=path)
    head = _DATA_URI.match(url)
    if head is None:
        raise CallRefused(f"{path}: invalid image input", param=path)
    return image(url[head.end() :], path)


def joined(texts: Iterable[str]) -> str:
    """Join the parts of a message: Ollama's messages have one text."""
    return "\n".join(text for text in texts if text)


# --- what is answered -----------------------------------------------------------------------------------------


class EventEncoder(Encoder):
    """Writes server-sent events."""

    stream_type: ClassVar[str] = EVENTS
    keep_alive: ClassVar[bytes] = b": keep-alive\n\n"

    def failure(self, failure: Failure) -> bytes:
        self.is_over = True
        return data_event(error_object(failure))


def data_event(value: JsonObject) -> bytes:
    return f"data: {to_json(value)}\n\n".encode("ascii")


class ToolCallIds:
    """Gives each tool call of an answer an id that no other has: models' own are often missing or all the same."""

    def __init__(self, task_id: uuid.UUID) -> None:
        self._prefix = f"call_{task_id.hex}"
        self._taken: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._taken)

    def take(self, call: ToolCall) -> str:
        name = call.id if call.id and call.id not in self._taken else f"{self._prefix}_{self.count}"
        self._taken.add(name)
        return name


def usage(chunk: ChatChunk) -> JsonObject:
    return {
        "prompt_tokens": chunk.prompt_tokens,
        "completion_tokens": chunk.output_tokens,
        "total_tokens": chunk.prompt_tokens + chunk.output_tokens,
    }


def finish_reason(chunk: ChatChunk, *, has_calls: bool = False) -> str:
    if chunk.done_reason == "length":
        return "length"
    return "tool_calls" if has_calls else "stop"


def token_logprobs(tokens: Iterable[Any]) -> list[JsonObject]:
    """Write log probabilities with every field that OpenAI's clients expect, whatever a model server made of them."""
    return [
        {**_token(token), "top_logprobs": [_token(top) for top in token.get("top_logprobs") or () if _is_token(top)]}
        for token in tokens
        if _is_token(token)
    ]


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("token"), str)


def _token(token: JsonObject) -> JsonObject:
    return {"token": token["token"], "logprob": token.get("logprob"), "bytes": token.get("bytes")}
