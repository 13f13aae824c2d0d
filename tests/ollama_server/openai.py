"""The OpenAI-compatible endpoints under /v1, as Ollama serves them."""

import base64
import itertools
import json
import struct
import time
from typing import Any

from tests.ollama_server.generation import Answer, Format, Generator, Job
from tests.ollama_server.http import EVENTS, Reply, Request
from tests.ollama_server.models import CONTEXT_LENGTH, Catalogue, Model, full_name
from tests.ollama_server.native import NativeApi
from tests.ollama_server.parsing import Refusal, check_format, check_images, check_logprobs, parse_body, parse_options

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_EFFORTS = {"none", "low", "medium", "high", "max"}


def error_object(refusal: Refusal) -> dict[str, Any]:
    kind = _TYPES.get(refusal.status, "api_error")
    return {"error": {"message": refusal.text, "type": kind, "param": None, "code": None}}


class OpenAiApi:
    """Handlers of the /v1 endpoints."""

    def __init__(self, catalogue: Catalogue, native: NativeApi, generator: Generator) -> None:
        self._catalogue = catalogue
        self._native = native
        self._generator = generator
        self._numbers = itertools.count(1)

    async def models(self, request: Request, reply: Reply) -> None:
        """Lists models; `data` is null when there are none, as Go encodes an empty slice."""
        reply.json(200, {"object": "list", "data": [_model_row(model) for model in self._catalogue.all()] or None})

    async def model(self, request: Request, reply: Reply) -> None:
        name = request.path.rsplit("/", 1)[-1]
        model = self._catalogue.find(name)
        if model is None:
            raise Refusal(404, f"model '{full_name(name)}' not found")
        reply.json(200, _model_row(model))

    async def chat_completions(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body, empty="EOF")
        if not body.get("messages"):
            raise Refusal(400, "[] is too short - 'messages'")
        check_logprobs(body)
        effort = body.get("reasoning_effort")
        if effort is not None and effort not in _EFFORTS:
            raise Refusal(400, f"invalid reasoning value: '{effort}'")
        job = self._job(request, body)
        job.think = effort not in {None, "none"}
        options = body.get("stream_options") or {}
        writer = _Completion(f"chatcmpl-{next(self._numbers)}", job.name, bool(options.get("include_usage")))
        wire = Format(EVENTS, writer.render, writer.last, writer.lost_error, writer.whole)
        await self._generator.run(job, reply, wire, stream=bool(body.get("stream")))

    def _job(self, request: Request, body: dict[str, Any]) -> Job:
        name = body.get("model") or ""
        if not name:
            raise Refusal(400, "model is required")
        messages = [_plain_message(message) for message in body["messages"]]
        model = self._native.find(name)
        options = {"num_predict": body["max_tokens"]} if body.get("max_tokens") is not None else {}
        if body.get("tools") and not model.can("tools"):
            raise Refusal(400, f'"{name}" does not support tools')
        return Job(
            model=model,
            name=name,
            messages=messages,
            options=parse_options(options, CONTEXT_LENGTH),
            tools=body.get("tools") or [],
            format=_response_format(body.get("response_format")),
            knobs=self._native.knobs_for(request.path, model, messages[-1]["content"]),
        )

    async def embeddings(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body, empty="EOF")
        texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input") or []
        if not texts:
            raise Refusal(400, "invalid input")
        name = body.get("model") or ""
        if self._catalogue.find(name) is None:
            raise Refusal(404, f'model "{name}" not found, try pulling it first')
        job = self._job(request, {"model": name, "messages": [{"role": "user", "content": text} for text in texts]})
        vectors, tokens, _ = await self._native.vectors(job, texts, body.get("dimensions"), reply)
        if reply.has_begun:
            return
        as_base64 = body.get("encoding_format") == "base64"
        rows = [
            {"object": "embedding", "index": index, "embedding": _base64_floats(row) if as_base64 else row}
            for index, row in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply.json(200, {"object": "list", "data": rows, "model": name, "usage": usage})


class _Completion:
    """Writes one chat completion, streamed or whole."""

    def __init__(self, number: str, model: str, include_usage: bool) -> None:
        self._head = {
            "id": number,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "fp_ollama",
        }
        self._include_usage = include_usage

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        return self._head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    def render(self, answer: Answer, start: int, stop: int) -> bytes:
        text = "".join(answer.tokens[start:stop])
        role = {"role": "assistant"} if start == 0 else {}
        return _event(self._chunk(role | {"reasoning" if start < answer.thinking else "content": text}, None))

    def last(self, answer: Answer) -> list[bytes]:
        events = []
        if answer.tool_call is not None:
            role = {} if answer.tokens else {"role": "assistant"}
            events.append(self._chunk(role | {"content": "", "tool_calls": [_tool_call(answer)]}, None))
        events.append(self._chunk({}, _finish_reason(answer)))
        if self._include_usage:
            events.append(self._head | {"choices": [], "usage": _usage(answer)})
        return [*map(_event, events), b"data: [DONE]\n\n"]

    def whole(self, answer: Answer, done: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if answer.thoughts:
            message["reasoning"] = answer.thoughts
        if answer.tool_call is not None:
            message["tool_calls"] = [_tool_call(answer)]
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer) if done else None}
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": _usage(answer)}

    def lost_error(self, text: str) -> bytes:
        """Ollama loses the text of an error here: an empty chunk is all that comes."""
        return _event(self._chunk({"content": ""}, None) | {"model": ""})


def _model_row(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "library"}


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """Join the text parts of a message; images must be base64 data URIs."""
    content = message.get("content")
    if not isinstance(content, list):
        return {"role": message.get("role"), "content": content or ""}
    urls = [part["image_url"]["url"] for part in content if part.get("type") == "image_url"]
    for url in urls:
        head, comma, data = url.partition(";base64,")
        if not comma or not head.startswith("data:"):
            raise Refusal(400, "image URLs are not currently supported, please use base64 encoded data instead")
        check_images([data])
    texts = [part.get("text", "") for part in content if part.get("type") == "text"]
    return {"role": message.get("role"), "content": "".join(texts)}


def _response_format(value: Any) -> str | dict[str, Any] | None:
    kind = (value or {}).get("type")
    if kind == "json_object":
        return "json"
    return check_format(value["json_schema"]["schema"]) if kind == "json_schema" else None


def _event(value: dict[str, Any]) -> bytes:
    return (
        b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
    )


def _tool_call(answer: Answer) -> dict[str, Any]:
    assert answer.tool_call is not None
    function = answer.tool_call | {"arguments": json.dumps(answer.tool_call["arguments"])}
    return {"id": "call_0", "index": 0, "type": "function", "function": function}


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool_call is not None else answer.done_reason


def _usage(answer: Answer) -> dict[str, int]:
    prompt, output = answer.prompt_tokens, answer.output_tokens
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _base64_floats(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
