"""A call of a model, as clients of Ollama make it: with all its messages, and without a conversation that is kept.

The input is Ollama's native request with its operation beside it:
{"operation": "chat" | "generate" | "embed", "messages": […], "options": {…}, …}.
"""

import base64
import re
from array import array
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.core.exceptions import ValidationError

from agents.kinds.base import CannotAnswer, Kind, Outcome, Work, estimate_tokens
from agents.kinds.context import Exchange, fit, message_tokens
from agents.models import AgentTask, AgentVersion
from agents.models.agent import validate_options
from agents.ollama.errors import NotOllama
from agents.ollama.protocol import parse_tool_call
from agents.ollama.types import (
    LOAD_OPTIONS,
    ChatChunk,
    ChatRequest,
    EmbedRequest,
    EmbedResult,
    GenerateRequest,
    JsonObject,
    Message,
)
from core.exceptions import InvalidInput

CHAT, GENERATE, EMBED = "chat", "generate", "embed"

DEFAULT_OUTPUT_SHARE = 4  # a quarter of the window is left for an answer of no stated length
MAX_ITEMS = 2048

ROLES = ("system", "user", "assistant", "tool")
_TEXT, _NUMBER = (str,), (int, float)
_SHARED: dict[str, tuple[type, ...]] = {
    "options": (dict,),
    "keep_alive": (int, float, str),
    "format": (str, dict),
    "think": (bool, str),
    "truncate": (bool,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
}
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    CHAT: {**_SHARED, "messages": (list,), "tools": (list,)},
    GENERATE: {
        **_SHARED,
        **dict.fromkeys(("prompt", "suffix", "system", "template"), _TEXT),
        "raw": (bool,),
        "images": (list,),
    },
    EMBED: {
        "input": (list,),
        "truncate": (bool,),
        "dimensions": (int,),
        "options": (dict,),
        "keep_alive": (int, float, str),
    },
}
_MESSAGE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("role", "content", "thinking", "tool_name", "tool_call_id"), _TEXT),
    "images": (list,),
    "tool_calls": (list,),
}
# What neither PostgreSQL nor UTF-8 can hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Request = ChatRequest | GenerateRequest | EmbedRequest


class ModelCall(Kind):
    name = "model_call"
    label = "Model calls"

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        operation = data.get("operation")
        if operation not in FIELDS:
            raise InvalidInput({"operation": [f"One of {', '.join(FIELDS)}."]})
        given = {name: value for name, value in data.items() if value is not None and name != "operation"}
        _check_fields(given, FIELDS[operation])
        _check_texts(given)
        cleaned: JsonObject = {"operation": operation, **given}
        if operation == CHAT:
            messages = read_messages(cleaned.setdefault("messages", []))
            _check_length("messages", sum(len(message.content) for message in messages), version)
        elif operation == GENERATE:
            _check_length("prompt", len(cleaned.setdefault("prompt", "")), version)
        else:
            _check_texts_of("input", cleaned.setdefault("input", []))
            _check_length("input", max(map(len, cleaned["input"]), default=0), version)
        _check_texts_of("images", cleaned.get("images", []))
        return cleaned

    def estimate_prompt(self, task: AgentTask, *, at_most: int) -> int:
        asked, system = task.input, task.version.system_prompt
        tokens = estimate_tokens(system) if system else 0
        if asked["operation"] == CHAT:
            return tokens + sum(map(message_tokens, read_messages(asked["messages"])))
        texts = asked["input"] if asked["operation"] == EMBED else [asked["prompt"], asked.get("system", "")]
        return tokens + sum(map(estimate_tokens, texts))

    def run(self, work: Work) -> Generator[ChatChunk, None, Outcome]:
        call = Call.of(work)
        if isinstance(call.request, EmbedRequest):
            return call.embedded(work.model.embed(call.request))
        for chunk in work.model.ask(call.request):
            call.took(chunk)
            yield chunk
        return call.outcome()


@dataclass
class Call:
    """One call on its way: what is sent, and what to make of what came back.

    estimate: how many tokens the prompt takes, on the high side. window: how many the model reads; None: unknown.
    """

    request: Request
    estimate: int
    window: int | None
    is_truncated: bool = False
    _last: ChatChunk | None = None
    _thinking: list[str] = field(default_factory=list)
    _tool_calls: list[JsonObject] = field(default_factory=list)

    @classmethod
    def of(cls, work: Work) -> "Call":
        """Make the request that a task's input asks for, within its version's limits.

        Raises CannotAnswer where it does not fit, and the version is to refuse that.
        """
        asked = work.task.input
        if asked["operation"] == EMBED:
            return _embed_call(work, asked)
        call = _chat_call(work, asked) if asked["operation"] == CHAT else _generate_call(work, asked)
        policy_rejects = work.version.truncation == AgentVersion.Truncation.REJECT
        if call.window is not None and call.estimate > call.window:
            call.is_truncated = True
            if policy_rejects:
                raise CannotAnswer(
                    "context-overflow",
                    f"The prompt takes about {call.estimate} tokens; the model reads {call.window} at once.",
                )
        return call

    def took(self, chunk: ChatChunk) -> None:
        """Note a piece of the answer."""
        if chunk.thinking:
            self._thinking.append(chunk.thinking)
        for call in chunk.tool_calls:
            self._tool_calls.append({"id": call.id, "name": call.name, "arguments": call.arguments})
        if chunk.done:
            self._last = chunk

    def outcome(self) -> Outcome:
        """Sum up a whole answer."""
        last = self._last or ChatChunk()
        output: JsonObject = {"done_reason": last.done_reason}
        if self._thinking:
            output["thinking"] = "".join(self._thinking)
        if self._tool_calls:
            output["tool_calls"] = self._tool_calls
        # A server that cut the prompt itself says nothing, but it filled the window.
        filled = self.window is not None and last.prompt_tokens >= self.window
        return Outcome(
            output=output,
            is_truncated=self.is_truncated or filled or last.done_reason == "length",
            notes={"estimated_prompt_tokens": self.estimate, "done_reason": last.done_reason},
        )

    def embedded(self, result: EmbedResult) -> Outcome:
        """Sum up vectors, which are kept as they are sent to clients that ask for base64: 4 bytes a number."""
        dimensions = len(result.embeddings[0]) if result.embeddings else 0
        numbers = array("f", (number for row in result.embeddings for number in row))
        output = {
            "embeddings": base64.b64encode(numbers.tobytes()).decode(),
            "dimensions": dimensions,
            "count": len(result.embeddings),
        }
        return Outcome(output=output, notes={"estimated_prompt_tokens": self.estimate})


def split(asked: JsonObject, most: int) -> list[JsonObject]:
    """Divide an embedding call into calls of at most so many texts each; other calls stay whole."""
    if asked["operation"] != EMBED or len(asked["input"]) <= most:
        return [asked]
    texts = asked["input"]
    return [{**asked, "input": texts[start : start + most]} for start in range(0, len(texts), most)]


def read_messages(values: list[Any]) -> list[Message]:
    """Read the messages of a request. Raises InvalidInput."""
    return [_message(value, number) for number, value in enumerate(values)]


def _message(value: Any, number: int) -> Message:
    where = f"messages[{number}]"
    if not isinstance(value, dict):
        raise InvalidInput({where: ["A message is an object."]})
    given = {name: item for name, item in value.items() if item is not None}
    _check_fields(given, _MESSAGE, where=f"{where}.")
    if given.get("role") not in ROLES:
        raise InvalidInput({f"{where}.role": [f"One of {', '.join(ROLES)}."]})
    _check_texts_of(f"{where}.images", given.get("images", []))
    try:
        calls = tuple(parse_tool_call(call) for call in given.get("tool_calls", ()))
    except NotOllama as error:
        raise InvalidInput({f"{where}.tool_calls": [error.detail]}) from error
    return Message(
        role=given["role"],
        content=given.get("content", ""),
        thinking=given.get("thinking", ""),
        images=tuple(given.get("images", ())),
        tool_calls=calls,
        tool_name=given.get("tool_name", ""),
        tool_call_id=given.get("tool_call_id", ""),
    )


def _chat_call(work: Work, asked: JsonObject) -> Call:
    """Fit the messages into the window: system messages and the last turn stay, the oldest turns go first."""
    messages = read_messages(asked["messages"])
    options = _options(work.version, asked)
    window = work.model.context_tokens if work.model.knows_context else None
    texts = [message.content for message in messages if message.role == "system"]
    system = "\n\n".join(filter(None, [work.version.system_prompt, *texts]))
    *earlier, last = _turns([message for message in messages if message.role != "system"])
    is_truncated = False
    if window is None:
        first = [Message(role="system", content=system)] if system else []
        chosen = (*first, *(message for turn in earlier for message in turn), *last)
    else:
        context = fit(
            work.version.truncation,
            system=system,
            earlier=map(Exchange, reversed(earlier)),
            last=last,
            budget_tokens=window - _room(options, window),
        )
        chosen, is_truncated = context.messages, context.is_truncated
    request = ChatRequest(
        model=work.task.model, messages=chosen, tools=tuple(asked.get("tools", ())), **_shared(asked, options)
    )
    return Call(request, sum(map(message_tokens, chosen)), window, is_truncated)


def _turns(messages: list[Message]) -> list[tuple[Message, ...]]:
    """Split a conversation where somebody speaks to the model, so that tool calls stay with their results."""
    starts = [number for number, message in enumerate(messages) if message.role == "user" and number]
    return [tuple(messages[start:end]) for start, end in pairwise([0, *starts, len(messages)])] or [()]


def _generate_call(work: Work, asked: JsonObject) -> Call:
    options = _options(work.version, asked)
    names = ("prompt", "suffix", "system", "template", "raw")
    given = {name: asked[name] for name in names if name in asked}
    if work.version.system_prompt and not given.get("raw"):
        given["system"] = "\n\n".join(filter(None, (work.version.system_prompt, given.get("system", ""))))
    request = GenerateRequest(
        model=work.task.model, images=tuple(asked.get("images", ())), **given, **_shared(asked, options)
    )
    window = work.model.context_tokens if work.model.knows_context else None
    return Call(request, estimate_tokens(request.prompt) + estimate_tokens(request.system), window)


def _embed_call(work: Work, asked: JsonObject) -> Call:
    request = EmbedRequest(
        model=work.task.model,
        inputs=tuple(asked["input"]),
        truncate=asked.get("truncate"),
        dimensions=asked.get("dimensions"),
        keep_alive=asked.get("keep_alive"),
        options=_options(work.version, asked),
    )
    return Call(request, sum(map(estimate_tokens, request.inputs)), None)


def _shared(asked: JsonObject, options: JsonObject) -> dict[str, Any]:
    names = ("format", "keep_alive", "think", "truncate", "logprobs", "top_logprobs")
    return {"options": options, **{name: asked[name] for name in names if name in asked}}


def _options(version: AgentVersion, asked: JsonObject) -> JsonObject:
    """The version's options, the caller's over them, but those that the caller may not choose."""
    given = {name: value for name, value in asked.get("options", {}).items() if name not in LOAD_OPTIONS}
    options: JsonObject = {**version.options, **given}
    if (most := version.max_output_tokens) is not None:
        wanted = options.get("num_predict")
        options["num_predict"] = min(wanted, most) if isinstance(wanted, int) and wanted > 0 else most
    return options


def _room(options: JsonObject, window: int) -> int:
    """How many tokens the answer needs: its limit, else a share of the window; never more than half of it."""
    wanted = options.get("num_predict")
    room = wanted if isinstance(wanted, int) and wanted > 0 else window // DEFAULT_OUTPUT_SHARE
    return min(room, window // 2)


def _check_fields(given: Mapping[str, Any], allowed: Mapping[str, tuple[type, ...]], *, where: str = "") -> None:
    for name, value in given.items():
        kinds = allowed.get(name)
        if kinds is None:
            raise InvalidInput({f"{where}{name}": ["Unknown field."]})
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InvalidInput(
                {f"{where}{name}": [f"Not of the type {' or '.join(kind.__name__ for kind in kinds)}."]}
            )
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            raise InvalidInput({f"{where}{name}": [f"At most {MAX_ITEMS}; these are {len(value)}."]})
    if "options" in given:
        try:
            validate_options(given["options"])
        except ValidationError as error:
            raise InvalidInput({"options": error.messages}) from error


def _check_texts_of(name: str, values: list[Any]) -> None:
    if not all(isinstance(value, str) for value in values):
        raise InvalidInput({name: ["A list of texts."]})


def _check_texts(value: Any) -> None:
    """Refuse what no database holds, however deep it lies."""
    items = [value]
    for item in items:  # which grows on the way
        match item:
            case str() if _UNSTORABLE.search(item):
                raise InvalidInput({"input": ["Null characters and lone surrogates are not allowed."]})
            case dict():
                items += item
                items += item.values()
            case list():
                items += item


def _check_length(name: str, length: int, version: AgentVersion) -> None:
    if length > version.max_message_characters:
        raise InvalidInput({name: [f"At most {version.max_message_characters} characters; this has {length}."]})
