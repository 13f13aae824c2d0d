"""The formats that clients of the gateway speak: how they write a call, and what they make of the answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Body = dict[str, Any]
MODEL = "tinyllama"


class End(Enum):
    """How an answer ended, as its format tells it."""

    NONE = "did not end"
    DONE = "done"
    ERROR = "error"


@dataclass
class Heard:
    """What a client made of an answer. numbers: of its events, where they have any. identity: to come back with."""

    text: str = ""
    end: End = End.NONE
    error: Any = None
    numbers: list[int] = field(default_factory=list)
    identity: str = ""

    @property
    def code(self) -> str:
        """The code of the error; Ollama's formats have none."""
        return str(self.error.get("code") or "") if isinstance(self.error, dict) else ""

    def failed(self, error: Any) -> None:
        self.end, self.error = End.ERROR, error


Read = Callable[[Heard, Body], None]  # takes an object of an answer


@dataclass(frozen=True)
class Wire:
    """One format. call: the body of a call. piece: reads what a stream consists of; whole: an answer at once."""

    name: str
    path: str
    call: Callable[[str, bool], Body]
    piece: Read
    whole: Read
    is_lines: bool = False

    def body(self, prompt: str, *, streams: bool) -> Body:
        return self.call(prompt, streams)


class StreamReader:
    """Reads a stream as its bytes come."""

    def __init__(self, wire: Wire, heard: Heard) -> None:
        self._wire = wire
        self._heard = heard
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n" if self._wire.is_lines else b"\n\n")
        for block in blocks:
            for value in [block] if self._wire.is_lines else _data(block):
                self._take(value)

    def _take(self, value: bytes) -> None:
        if self._heard.end is not End.NONE:
            raise ValueError(f"after the end came {value[:200]!r}")
        if value == b"[DONE]":
            self._heard.end = End.DONE
            return
        item = json.loads(value)
        if item.get("error") is not None and "response" not in item:
            self._heard.failed(item["error"])
        else:
            self._wire.piece(self._heard, item)


def _data(block: bytes) -> Iterator[bytes]:
    """The data of a server-sent event; comments have none."""
    return (line.removeprefix(b"data: ") for line in block.split(b"\n") if line.startswith(b"data: "))


def read_whole(wire: Wire, heard: Heard, data: bytes) -> None:
    """Read an answer that came at once, or a refusal."""
    item = json.loads(data)
    if item.get("error") is not None:
        heard.failed(item["error"])
    else:
        wire.whole(heard, item)
        heard.end = End.DONE


# OpenAI -------------------------------------------------------------------------------------------------------------


def _messages(prompt: str, streams: bool) -> Body:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": streams}


def _chat_piece(heard: Heard, item: Body) -> None:
    heard.text += "".join(choice["delta"].get("content") or "" for choice in item["choices"])


def _chat_whole(heard: Heard, item: Body) -> None:
    heard.text = item["choices"][0]["message"]["content"]


def _prompt(prompt: str, streams: bool) -> Body:
    return {"model": MODEL, "prompt": prompt, "stream": streams}


def _completion(heard: Heard, item: Body) -> None:
    heard.text += "".join(choice["text"] for choice in item["choices"])


def _responses(prompt: str, streams: bool) -> Body:
    return {"model": MODEL, "input": prompt, "stream": streams}


def _response_event(heard: Heard, item: Body) -> None:
    heard.numbers.append(item["sequence_number"])
    match item["type"]:
        case "response.created":
            heard.identity = item["response"]["id"]
        case "response.output_text.delta":
            heard.text += item["delta"]
        case "response.completed":
            heard.end = End.DONE
        case "response.failed" | "response.incomplete":
            heard.failed(item["response"]["error"])


def _response(heard: Heard, item: Body) -> None:
    heard.identity = item["id"]
    heard.text = "".join(part["text"] for output in item["output"] for part in output["content"])


# Ollama -------------------------------------------------------------------------------------------------------------


def _native_chat(heard: Heard, item: Body) -> None:
    heard.text += item["message"].get("content", "")
    heard.end = End.DONE if item["done"] else End.NONE


def _native_generate(heard: Heard, item: Body) -> None:
    heard.text += item["response"]
    heard.end = End.DONE if item["done"] else End.NONE


CHAT = Wire("chat", "/v1/chat/completions", _messages, _chat_piece, _chat_whole)
COMPLETION = Wire("completion", "/v1/completions", _prompt, _completion, _completion)
RESPONSE = Wire("response", "/v1/responses", _responses, _response_event, _response)
NATIVE_CHAT = Wire("ollama chat", "/ollama/api/chat", _messages, _native_chat, _native_chat, is_lines=True)
GENERATE = Wire("ollama generate", "/ollama/api/generate", _prompt, _native_generate, _native_generate, is_lines=True)
WIRES = (CHAT, COMPLETION, RESPONSE, NATIVE_CHAT, GENERATE)
