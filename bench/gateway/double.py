"""The model server behind all gateways that are measured, made so that it is never the limit.

    python -m bench.gateway.double --port 11500 --model double --model double:t100-d50

What a model says is made once and then only written. How many tokens it says, when the first of them comes and at
what pace the others, stand in its tag, in the notation of `tests.ollama_server.knobs`: "double:t100-f200-d50". Every
token is a `WORD`, so that they can be counted behind any gateway. GET /__stats tells how many calls came.
"""

import argparse
import asyncio
import json
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tests.ollama_server import OllamaTestProcess, knobs
from tests.ollama_server.embedded import allow_many_sockets, port_of
from tests.ollama_server.http import EVENTS, JSON, NDJSON, REASONS

WORD = b"lorem "
TOKENS = 16  # of a model whose tag says nothing
PROMPT_TOKENS = 8
DIMENSIONS = 64
MOMENT = "2026-01-01T00:00:00.000000Z"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BACKLOG = 4096

Object = dict[str, Any]


class DoubleProcess(OllamaTestProcess):
    """The server in a process of its own, on a free port."""

    module = "bench.gateway.double"

    def __init__(self, models: Iterable[str]) -> None:
        super().__init__(*(part for model in models for part in ("--model", model)))

    @property
    def calls(self) -> int:
        """How many calls of models came."""
        return int(self.stats()["calls"])


# What models say -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Script:
    """An answer in one dialect, as bytes to write. whole: not streamed. head, tokens, end: streamed, as chunks."""

    whole: bytes
    head: bytes
    tokens: tuple[bytes, ...]
    end: bytes
    first_seconds: float
    gap_seconds: float

    @property
    def seconds(self) -> float:
        return self.first_seconds + self.gap_seconds * (len(self.tokens) - 1)


@lru_cache(maxsize=256)
def script(path: str, model: str, *, has_usage: bool) -> Script:
    """Make what a model says at an address. has_usage: whether an OpenAI stream tells how many tokens there were."""
    asked = knobs.parse(model.partition(":")[2]) or knobs.NONE
    count = TOKENS if asked.t is None else asked.t
    is_openai = path.startswith("/v1/")
    whole, head, tokens, end = _openai(model, count, has_usage=has_usage) if is_openai else _ollama(model, count)
    return Script(whole, head, tokens, end, (asked.f or 0) / 1000, (asked.d or 0) / 1000)


Written = tuple[bytes, bytes, tuple[bytes, ...], bytes]


def _ollama(model: str, count: int) -> Written:
    def line(text: str, **more: object) -> Object:
        return {
            "model": model,
            "created_at": MOMENT,
            "message": {"role": "assistant", "content": text},
            "done": False,
        } | more

    figures: Object = {
        "done": True,
        "done_reason": "stop",
        "total_duration": 1_000_000,
        "load_duration": 1_000,
        "prompt_eval_count": PROMPT_TOKENS,
        "prompt_eval_duration": 1_000,
        "eval_count": count,
        "eval_duration": 1_000_000,
    }
    word = WORD.decode()
    tokens = (_chunk(_encoded(line(word)) + b"\n"),) * count
    end = _chunk(_encoded(line("", **figures)) + b"\n") + _chunk(b"")
    return _answer(200, line(word * count, **figures)), _head(200, NDJSON), tokens, end


def _openai(model: str, count: int, *, has_usage: bool) -> Written:
    head: Object = {"id": "chatcmpl-double", "created": 1_767_225_600, "model": model}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": count, "total_tokens": PROMPT_TOKENS + count}
    word = WORD.decode()

    def event(delta: Object, finish_reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return _event(head | {"object": "chat.completion.chunk", "choices": choices})

    message = {"role": "assistant", "content": word * count}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    whole = _answer(200, head | {"object": "chat.completion", "choices": choices, "usage": usage})
    tokens = (event(message | {"content": word}), *[event({"content": word})] * (count - 1))[:count]
    last = _event(head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}) if has_usage else b""
    return whole, _head(200, EVENTS), tokens, event({}, "stop") + last + _chunk(b"data: [DONE]\n\n") + _chunk(b"")


def _event(value: Object) -> bytes:
    return _chunk(b"data: " + _encoded(value) + b"\n\n")


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(status: int, content_type: str, length: int | None = None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode()


def _answer(status: int, value: object) -> bytes:
    body = _encoded(value)
    return _head(status, JSON, len(body)) + body


# What else there is to ask -------------------------------------------------------------------------------------------


class Double:
    """What all connections share: which models there are, and how many calls came."""

    def __init__(self, models: Iterable[str]) -> None:
        self.calls = 0
        self._models = [model if ":" in model else f"{model}:latest" for model in models]
        self._names = {*self._models, *(name.removesuffix(":latest") for name in self._models)}

    def has(self, model: str) -> bool:
        return model in self._names

    def plain(self, path: str, body: Object) -> bytes:
        """Answer what is no generation."""
        if path == "/api/tags":
            return _answer(200, {"models": [self._row(name) for name in self._models]})
        if path == "/v1/models":
            return _answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]})
        if path == "/api/embed":
            return self._embedded(body)
        known: dict[str, Object] = {
            "/api/version": {"version": "0.33.0"},
            "/api/ps": {"models": []},
            "/api/show": {
                "template": "{{ .Prompt }}",
                "details": {"family": "double"},
                "model_info": {"general.architecture": "double", "double.context_length": 8192},
                "capabilities": ["completion"],
            },
            "/__stats": {"calls": self.calls},
        }
        return _answer(200, known[path]) if path in known else _answer(404, {"error": "not found"})

    def _embedded(self, body: Object) -> bytes:
        self.calls += 1
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [[0.5] * DIMENSIONS for _ in inputs]
        return _answer(200, {"model": body["model"], "embeddings": vectors, "prompt_eval_count": PROMPT_TOKENS})

    @staticmethod
    def _row(name: str) -> Object:
        return {
            "name": name,
            "model": name,
            "modified_at": MOMENT,
            "size": 1,
            "digest": name.encode().hex().ljust(64, "0")[:64],
            "details": {"family": "double", "parameter_size": "1B"},
            "capabilities": ["completion"],
        }


class Connection(asyncio.Protocol):
    """One client connection; it sends its next request when it has the whole answer to the last one."""

    def __init__(self, double: Double) -> None:
        self._double = double
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = LENGTH.search(self._buffer, 0, head_end)
        body_end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < body_end:
            return
        body = self._buffer[head_end + 4 : body_end]
        path = self._buffer[:head_end].split(b" ", 2)[1].decode().partition("?")[0]
        self._buffer = self._buffer[body_end:]
        self._answer(path, json.loads(body) if body else {})

    def _answer(self, path: str, body: Object) -> None:
        if path not in {"/api/chat", "/v1/chat/completions"}:
            self._transport.write(self._double.plain(path, body))
            return
        if not self._double.has(body["model"]):
            self._transport.write(_answer(404, {"error": f"model '{body['model']}' not found"}))
            return
        self._double.calls += 1
        has_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        spoken = script(path, body["model"], has_usage=has_usage)
        if body.get("stream", path == "/api/chat"):
            self._transport.write(spoken.head)
            self._speak(spoken, 0, self._loop.time() + spoken.first_seconds)
        elif spoken.seconds:
            self._timer = self._loop.call_later(spoken.seconds, self._transport.write, spoken.whole)
        else:
            self._transport.write(spoken.whole)

    def _speak(self, spoken: Script, said: int, due: float) -> None:
        """Send each token that is due, in a segment of its own, and wait for the next one's moment."""
        while said < len(spoken.tokens) and not self._transport.is_closing():
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self._speak, spoken, said, due)
                return
            self._transport.write(spoken.tokens[said])
            said, due = said + 1, due + spoken.gap_seconds
        self._transport.write(spoken.end)


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    double = Double(arguments.model or ["double"])
    server = await loop.create_server(lambda: Connection(double), "127.0.0.1", arguments.port, backlog=BACKLOG)
    print(f"Model server on http://127.0.0.1:{port_of(server)}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.double", description="A quick model server.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", action="append", help="a model that it has (default: double)")
    allow_many_sockets()
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
