"""POST /v1/responses of OpenAI, and GET /v1/responses/{id}.

The conversation comes whole with each request; nothing is taken from earlier responses.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.gateway.formats import openai_shared as shared
from agents.gateway.formats.base import Format, Wanted
from agents.gateway.formats.ollama_shared import model_missing, required_model, top_logprobs
from agents.gateway.formats.openai_responses_encoder import ID_PREFIX, ResponsesEncoder
from agents.gateway.formats.reading import CallRefused, Fields, decode_arguments
from agents.ollama.types import JsonObject

# How a task's state is told; the answer that was cut at its limit is "incomplete" in place of "completed".
STATUS_OF_TASK = {
    "queued": "queued",
    "running": "in_progress",
    "waiting_approval": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "failed",
}

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MAX_METADATA = 16
_UNSUPPORTED = {
    "previous_response_id": "is not supported; send the whole conversation as input",
    "conversation": "is not supported; send the whole conversation as input",
    "prompt": "is not supported; send instructions and input",
}


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How a client wants a response again. after: the last number of the stream that it has seen."""

    streams: bool
    after: int | None


def parse_retrieval(query: Mapping[str, str]) -> Retrieval:
    """Read the query of GET /v1/responses/{id}. Raises CallRefused."""
    after = query.get("starting_after", "")
    if after and not (after.isascii() and after.isdigit() and len(after) < 16):
        raise CallRefused("starting_after: must be a whole number", param="starting_after")
    streams = query.get("stream", "").lower() in {"true", "1"}
    if after and not streams:
        raise CallRefused("starting_after: needs stream=true", param="starting_after")
    return Retrieval(streams, int(after) if after else None)


def task_id(response_id: str) -> uuid.UUID:
    """Tell the task that a response's id stands for. Raises CallRefused."""
    try:
        found = uuid.UUID(hex=response_id.removeprefix(ID_PREFIX))
    except ValueError:
        found = None
    if found is None or response_id != f"{ID_PREFIX}{found.hex}":
        raise CallRefused(f"Response with id '{response_id[:80]}' not found.", status=404)
    return found


def parse(body: JsonObject) -> Wanted:
    """Read a request."""
    fields = Fields(body)
    model = required_model(fields)
    shared.refuse(fields, _UNSUPPORTED)
    if fields.flag("background") and fields.flag("store") is False:
        raise fields.refusal("store", "must be true for a response in the background")
    messages = _messages(fields)
    call: JsonObject = {"operation": "chat", "messages": messages}
    tools = [_tool(tool) for tool in fields.objects("tools")]
    if shared.wants_tools(fields) and tools:
        call["tools"] = tools
    if options := shared.sampling(fields, "max_output_tokens"):
        call["options"] = options
    if truncation := fields.choice("truncation", ("auto", "disabled")):
        call["truncate"] = truncation == "auto"
    text, reasoning = fields.inner("text"), fields.inner("reasoning")
    call |= shared.schema_format(text and text.inner("format"))
    call |= shared.think(reasoning, "effort") if reasoning else {}
    call |= _logprobs(fields)
    ignored = shared.ignored_fields(fields)
    return Wanted(
        model=model,
        call=call,
        streams=bool(fields.flag("stream")),
        shape=_shape(fields),
        is_background=bool(fields.flag("background")),
        ignored=(*ignored, "text.verbosity") if text and text.has("verbosity") else ignored,
    )


def _logprobs(fields: Fields) -> JsonObject:
    top = top_logprobs(fields)
    if not top and "message.output_text.logprobs" not in fields.texts("include"):
        return {}
    return {"logprobs": True, "top_logprobs": top or 0}


def _shape(fields: Fields) -> JsonObject:
    """Keep what responses repeat of their request, each in the form that was checked when it was read."""
    names = ("temperature", "top_p", "max_output_tokens", "top_logprobs", "tool_choice", "truncation", "tools")
    shape: JsonObject = {name: fields.value[name] for name in names if fields.has(name)}
    for name in ("parallel_tool_calls", "store", "background"):
        if (flag := fields.flag(name)) is not None:
            shape[name] = flag
    if instructions := fields.text("instructions"):
        shape["instructions"] = instructions
    if metadata := _metadata(fields):
        shape["metadata"] = metadata
    text, reasoning = fields.inner("text"), fields.inner("reasoning")
    if text and text.has("format"):
        shape["text"] = {"format": text.value["format"]}
    if reasoning:
        shape["reasoning"] = {"effort": reasoning.text("effort") or None, "summary": reasoning.text("summary") or None}
    if "reasoning.encrypted_content" in fields.texts("include"):
        shape["with_encrypted_content"] = True
    return shape


def _metadata(fields: Fields) -> JsonObject:
    metadata = fields.inner("metadata")
    pairs = {} if metadata is None else metadata.value
    if len(pairs) > MAX_METADATA or not all(isinstance(value, str) for value in pairs.values()):
        raise fields.refusal("metadata", f"must hold at most {MAX_METADATA} names with texts")
    return pairs


def _tool(fields: Fields) -> JsonObject:
    if (kind := fields.text("type")) != "function":
        raise fields.refusal("type", f"only functions can be called here, not {kind[:40] or 'nothing'}")
    if not (name := fields.text("name")):
        raise fields.refusal("name", "is missing")
    function: JsonObject = {"name": name}
    if description := fields.text("description"):
        function["description"] = description
    if (parameters := fields.inner("parameters")) is not None:
        function["parameters"] = parameters.value
    return {"type": "function", "function": function}


# --- the conversation -----------------------------------------------------------------------------------------


def _messages(fields: Fields) -> list[JsonObject]:
    conversation = _Conversation()
    if instructions := fields.text("instructions"):
        conversation.messages.append({"role": "system", "content": instructions})
    if isinstance(text := fields.value.get("input"), str):
        items = [Fields({"role": "user", "content": text}, "input")] if text else []
    else:
        items = fields.objects("input")
    if not items:
        raise fields.refusal("input", "is missing or empty")
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        conversation.add(item, following)
    return conversation.finished()


class _Conversation:
    """Makes messages of the items of an input: one item may be a part of a message, or stand for the next one."""

    def __init__(self) -> None:
        self.messages: list[JsonObject] = []
        self._names: dict[str, str] = {}  # of the functions called so far, by the calls' ids
        self._thinking = ""

    def add(self, item: Fields, following: Fields | None) -> None:
        match _kind(item):
            case "message":
                self._add_message(item, following)
            case "function_call":
                self._add_call(item)
            case "function_call_output":
                self._add_result(item)
            case "reasoning":
                self._thinking = _thinking(item)
            case kind:
                raise item.refusal("type", f"items of the type {kind[:40] or 'nothing'} are not supported")

    def finished(self) -> list[JsonObject]:
        if self._thinking:
            self.messages.append(self._with_thinking({"role": "assistant", "content": ""}))
        return self.messages

    def _add_message(self, item: Fields, following: Fields | None) -> None:
        role = ROLES.get(item.text("role").lower())
        if role is None:
            raise item.refusal("role", f"must be one of {', '.join(ROLES)}")
        content, images = _content(item, "content")
        message: JsonObject = {"role": role, "content": content}
        if images:
            message["images"] = images
        last = self.messages[-1] if self.messages else {}
        if role == "assistant" and "tool_calls" in last and following and _kind(following) == "function_call_output":
            # What was said beside a call: the call's result must follow the message that holds the call.
            last["content"] = shared.joined((last["content"], content))
            self._with_thinking(last)
        else:
            self.messages.append(self._with_thinking(message) if role == "assistant" else message)

    def _add_call(self, item: Fields) -> None:
        arguments = decode_arguments(item.text("arguments"), item.path_of("arguments"))
        name, call_id = item.text("name"), item.text("call_id")
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        message = self._with_thinking(self.messages[-1])
        calls: list[JsonObject] = message.setdefault("tool_calls", [])
        call: JsonObject = {"function": {"index": len(calls), "name": name, "arguments": arguments}}
        calls.append(call | {"id": call_id} if call_id else call)
        self._names[call_id] = name

    def _add_result(self, item: Fields) -> None:
        content, images = _content(item, "output")
        message: JsonObject = {"role": "tool", "content": content}
        if images:
            message["images"] = images
        if call_id := item.text("call_id"):
            message["tool_call_id"] = call_id
        if name := self._names.get(call_id):
            message["tool_name"] = name
        self.messages.append(message)

    def _with_thinking(self, message: JsonObject) -> JsonObject:
        if self._thinking:
            message["thinking"], self._thinking = self._thinking, ""
        return message


def _kind(item: Fields) -> str:
    return item.text("type") or ("message" if item.has("role") else "")


def _thinking(item: Fields) -> str:
    """What was thought, from wherever in a reasoning item it stands."""
    for name in ("content", "summary"):
        if text := shared.joined(part.text("text") for part in item.objects(name)):
            return text
    return item.text("encrypted_content")


def _content(item: Fields, name: str) -> tuple[str, list[str]]:
    """Read a content: text, or a list of parts; text and images."""
    content: Any = item.value.get(name)
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise item.refusal(name, "must be a string or a list of parts")
    texts: list[str] = []
    images: list[str] = []
    for part in item.objects(name):
        match part.text("type"):
            case "input_text" | "output_text":
                texts.append(part.text("text"))
            case "refusal":
                texts.append(part.text("refusal"))
            case "input_image":
                images.append(shared.data_uri(part.text("image_url"), part.path_of("image_url")))
            case _:
                raise part.refusal("type", "must be input_text, output_text, refusal or input_image")
    return shared.joined(texts), images


FORMAT = Format(shared.DIALECT, parse, ResponsesEncoder, model_missing)
