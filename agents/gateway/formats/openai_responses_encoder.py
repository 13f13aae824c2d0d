"""Writing answers as OpenAI's Responses: the object, and the events of its stream.

Every event has a number. The numbers follow from the pieces alone that the encoder is fed with, so a client that comes
back gets the same events under the same numbers, if the door feeds what the task's events hold: neither more, nor cut
in another way. A run that begins anew goes on with the numbers where the one before it stopped.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.gateway.formats import openai_shared as shared
from agents.gateway.formats.base import RESTARTED, Failure, Identity, Truth, text_to_json, to_bytes, to_json
from agents.ollama.types import ChatChunk, JsonObject, ToolCall

ID_PREFIX = "resp_"

# What a response repeats of its request, where that said nothing. What a model's author has set is not known here, and
# whether a prompt is cut is up to the agent: "auto" is the more honest of the two words that there are.
_UNSAID: JsonObject = {
    "previous_response_id": None,
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "auto",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "temperature": None,
    "top_p": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "reasoning": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


@dataclass(slots=True)
class _Item:
    """A message or a chain of thoughts that is being written."""

    kind: str
    id: str
    texts: list[str] = field(default_factory=list)
    logprobs: list[JsonObject] = field(default_factory=list)


class ResponsesEncoder(shared.EventEncoder):
    """Writes one response.

    after: the number of the last event that the client has seen; what comes up to it is not written again.
    """

    def __init__(self, identity: Identity, shape: JsonObject, *, after: int | None = None) -> None:
        super().__init__(identity, shape)
        self.id = f"{ID_PREFIX}{identity.task_id.hex}"
        self._after = -1 if after is None else after
        self._number = 0
        self._keeps_encrypted = bool(shape.get("with_encrypted_content"))
        echo = {name: value for name, value in shape.items() if name in _UNSAID}
        self._fixed: JsonObject = {
            "id": self.id,
            "object": "response",
            "created_at": int(identity.created.timestamp()),
            "model": identity.model,
            **_UNSAID,
            **echo,
        }
        self._forget()

    def _forget(self) -> None:
        self.has_begun = False
        self._call_ids = shared.ToolCallIds(self.identity.task_id)
        self._items: list[JsonObject] = []
        self._open: _Item | None = None
        self._before_delta = ""

    # --- the stream -------------------------------------------------------------------------------------------

    def start(self) -> bytes:
        response = self._response("in_progress", [])
        events = (self._event(f"response.{name}", response=response) for name in ("created", "in_progress"))
        return "".join(events).encode("ascii")

    def history(self, pieces: Iterable[ChatChunk | None]) -> bytes:
        """Write what was stored before the client came, all of it but the last piece; in place of `start`.

        None stands where a run began anew. A new client gets the last run from its beginning; one that has seen an
        earlier run gets the rest of that, and the failure that ends its stream.
        """
        written = [self.start()]
        for piece in pieces:
            if piece is not None:
                written.append(self.piece(piece))
            elif self.has_begun:
                failed = self._begin_anew()
                if 0 <= self._after < self._number:
                    self.is_over = True
                    return b"".join([*written, failed])
                written = [self.start()]
        return b"".join(written)

    def piece(self, chunk: ChatChunk) -> bytes:
        item = self._open
        if item is None or item.kind != "message" or chunk.thinking or chunk.tool_calls or chunk.logprobs:
            return "".join(self._events(chunk)).encode("ascii")
        if not chunk.text:
            return b""
        item.texts.append(chunk.text)
        number = self._number
        self._number += 1
        if number <= self._after:
            return b""
        return f'{self._before_delta}{text_to_json(chunk.text)},"sequence_number":{number}}}\n\n'.encode("ascii")

    def end(self, chunk: ChatChunk, truth: Truth) -> bytes:
        self.is_over = True
        events = [*self._events(chunk), *self._complete(chunk)]
        response = self._ended(chunk, truth)
        events.append(self._event(f"response.{response['status']}", response=response))
        return "".join(events).encode("ascii")

    def failure(self, failure: Failure) -> bytes:
        self.is_over = True
        return self._event("response.failed", response=self._failed(failure)).encode("ascii")

    def restart(self) -> bytes:
        if not self.has_begun:
            return b""
        self.is_over = True
        return self._begin_anew()

    def _begin_anew(self) -> bytes:
        """Forget the run so far. Returns its failure, which takes a number whether or not anybody is sent it."""
        self._after, after = -1, self._after
        failed = self._event("response.failed", response=self._failed(RESTARTED))
        self._after = after
        self._forget()
        return failed.encode("ascii")

    # --- the object -------------------------------------------------------------------------------------------

    def whole(self, chunks: Iterable[ChatChunk], truth: Truth) -> bytes:
        return self.retrieved("completed", chunks, truth=truth)

    def retrieved(
        self,
        status: str,
        chunks: Iterable[ChatChunk] = (),
        *,
        truth: Truth | None = None,
        failure: Failure | None = None,
    ) -> bytes:
        """Write the response as it stands. status: see `STATUS_OF_TASK`.

        chunks: the answer since the run last began; if it is completed, with its last. Raises ValueError without that.
        """
        self._after = sys.maxsize  # events are counted, and none is written
        pieces = list(chunks)
        for piece in pieces:
            self.piece(piece)
        last = pieces[-1] if pieces and pieces[-1].done else None
        if status == "completed":
            if last is None:
                raise ValueError("the answer has no end")
            for _ in self._complete(last):
                pass
            return to_bytes(self._ended(last, truth))
        if status == "failed":
            return to_bytes(self._failed(failure or Failure(status=500, message="The run failed."), truth))
        state = "incomplete" if status == "cancelled" else "in_progress"
        return to_bytes(self._response(status, self._output(state), truth=truth))

    def _response(
        self, status: str, output: list[JsonObject], *, truth: Truth | None = None, **more: Any
    ) -> JsonObject:
        at_end = {"completed_at": None, "incomplete_details": None, "error": None, "usage": None}
        told = {} if truth is None else {"sutazai": truth.body()}
        return {**self._fixed, "status": status, "output": output, **at_end, **more, **told}

    def _ended(self, last: ChatChunk, truth: Truth | None) -> JsonObject:
        usage = {
            "input_tokens": last.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": last.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": last.prompt_tokens + last.output_tokens,
        }
        if last.done_reason == "length":
            details = {"reason": "max_output_tokens"}
            return self._response("incomplete", self._items, truth=truth, usage=usage, incomplete_details=details)
        finished_at = truth and truth.finished_at
        completed_at = int(finished_at.timestamp()) if finished_at else None
        return self._response("completed", self._items, truth=truth, usage=usage, completed_at=completed_at)

    def _failed(self, failure: Failure, truth: Truth | None = None) -> JsonObject:
        error = {"code": failure.code or "server_error", "message": failure.message}
        return self._response("failed", self._output("incomplete"), truth=truth, error=error)

    def _output(self, status: str) -> list[JsonObject]:
        """All items so far; status: of the one that is being written."""
        return self._items if self._open is None else [*self._items, self._body(self._open, status)]

    # --- pieces to events -------------------------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> str:
        """Write an event under the next number, unless the client has seen it."""
        number = self._number
        self._number += 1
        if number <= self._after:
            return ""
        return f"event: {kind}\ndata: {to_json({'type': kind, **fields, 'sequence_number': number})}\n\n"

    def _events(self, chunk: ChatChunk) -> Iterator[str]:
        if chunk.thinking:
            yield from self._add_thinking(chunk.thinking)
        if chunk.text:
            yield from self._add_text(chunk)
        for call in chunk.tool_calls:
            yield from self._add_call(call)

    def _complete(self, last: ChatChunk) -> Iterator[str]:
        """Close what is open. An answer without anything is an empty message."""
        if self._open is None and not self._items:
            yield from self._begin("message")
        yield from self._close("incomplete" if last.done_reason == "length" else "completed")

    def _add_thinking(self, text: str) -> Iterator[str]:
        yield from self._begin("reasoning")
        assert self._open is not None
        self._open.texts.append(text)
        yield self._event("response.reasoning_summary_text.delta", **self._place(summary_index=0), delta=text)

    def _add_text(self, chunk: ChatChunk) -> Iterator[str]:
        yield from self._begin("message")
        assert self._open is not None
        logprobs = shared.token_logprobs(chunk.logprobs)
        self._open.texts.append(chunk.text)
        self._open.logprobs.extend(logprobs)
        place = self._place(content_index=0)
        yield self._event("response.output_text.delta", **place, logprobs=logprobs, delta=chunk.text)

    def _add_call(self, call: ToolCall) -> Iterator[str]:
        yield from self._close("completed")
        self.has_begun = True
        index = len(self._items)
        arguments = to_json(call.arguments)
        item: JsonObject = {
            "id": self._item_id("fc"),
            "type": "function_call",
            "status": "completed",
            "call_id": self._call_ids.take(call),
            "name": call.name,
            "arguments": arguments,
        }
        place = {"item_id": item["id"], "output_index": index}
        begun = {**item, "status": "in_progress", "arguments": ""}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=arguments)
        yield self._event("response.output_item.done", output_index=index, item=item)
        self._items.append(item)

    def _begin(self, kind: str) -> Iterator[str]:
        """Open an item of this kind, unless one is open."""
        if self._open is not None and self._open.kind == kind:
            return
        yield from self._close("completed")
        self.has_begun = True
        item = self._open = _Item(kind, self._item_id("msg" if kind == "message" else "rs"))
        empty = self._body(item, "in_progress", is_new=True)
        yield self._event("response.output_item.added", output_index=len(self._items), item=empty)
        if kind == "reasoning":
            part = _summary("")
            yield self._event("response.reasoning_summary_part.added", **self._place(summary_index=0), part=part)
            return
        place = self._place(content_index=0)
        yield self._event("response.content_part.added", **place, part=_text_part("", []))
        # An event whose only content is text is cut around the text, which saves nine tenths of the time it takes.
        fixed = {"type": "response.output_text.delta", **place, "logprobs": []}
        self._before_delta = f'event: response.output_text.delta\ndata: {to_json(fixed)[:-1]},"delta":'

    def _close(self, status: str) -> Iterator[str]:
        """Close the item that is open, if one is."""
        item = self._open
        if item is None:
            return
        text = "".join(item.texts)
        if item.kind == "reasoning":
            place = self._place(summary_index=0)
            yield self._event("response.reasoning_summary_text.done", **place, text=text)
            yield self._event("response.reasoning_summary_part.done", **place, part=_summary(text))
        else:
            place = self._place(content_index=0)
            yield self._event("response.output_text.done", **place, text=text, logprobs=item.logprobs)
            yield self._event("response.content_part.done", **place, part=_text_part(text, item.logprobs))
        body = self._body(item, status)
        yield self._event("response.output_item.done", output_index=len(self._items), item=body)
        self._items.append(body)
        self._open = None

    def _place(self, **index: int) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open.id, "output_index": len(self._items), **index}

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self.identity.task_id.hex}_{len(self._items)}"

    def _body(self, item: _Item, status: str, *, is_new: bool = False) -> JsonObject:
        text = "".join(item.texts)
        if item.kind == "message":
            content = [] if is_new else [_text_part(text, item.logprobs)]
            return {"id": item.id, "type": "message", "status": status, "role": "assistant", "content": content}
        summary = [] if is_new else [_summary(text)]
        body: JsonObject = {"id": item.id, "type": "reasoning", "status": status, "summary": summary}
        # As in Ollama it is the very text: clients that keep nothing else hand it back, and get no secret by it.
        return body | {"encrypted_content": text} if self._keeps_encrypted else body


def _summary(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}


def _text_part(text: str, logprobs: list[JsonObject]) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
