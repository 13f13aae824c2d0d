"""Ollama's own endpoints under /api."""

import asyncio
import functools
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from tests.ollama_server import answers, knobs
from tests.ollama_server.generation import QUEUE_FULL, Answer, Format, Generator, Job, commit_early_fault
from tests.ollama_server.http import NDJSON, Reply, Request
from tests.ollama_server.knobs import Knobs
from tests.ollama_server.models import CONTEXT_LENGTH, REGISTRY, Catalogue, Model, full_name, make, timestamp
from tests.ollama_server.parsing import (
    Refusal,
    check_format,
    check_images,
    check_logprobs,
    check_think,
    parse_body,
    parse_keep_alive,
    parse_options,
)
from tests.ollama_server.scheduler import QueueFullError, Scheduler
from tests.ollama_server.stats import Stats

VERSION = "0.33.0"
EMBEDDING_DIMENSIONS = 64
PULL_STEPS = 3

# Finds the knobs that POST /__control set for a request: (path, model, prompt) -> knobs.
ControlledKnobs = Callable[[str, str, str], Knobs]


class NativeApi:
    """Handlers of the native endpoints."""

    def __init__(
        self,
        catalogue: Catalogue,
        scheduler: Scheduler,
        generator: Generator,
        stats: Stats,
        controlled: ControlledKnobs,
    ) -> None:
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._generator = generator
        self._stats = stats
        self._controlled = controlled

    # --- text -------------------------------------------------------------------------------------------------

    async def chat(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        messages = body.get("messages") or []
        check_images([image for message in messages for image in message.get("images") or []])
        if not body.get("model"):
            raise Refusal(400, "model is required")
        job, model = self._job(request.path, body, messages)
        if body.get("tools"):
            _require(model, "tools", job.name)
            job.tools = body["tools"]
        _require(model, "completion", job.name, verb="chat")
        if not messages:
            await self._load_or_unload(job, reply, {"message": {"role": "assistant", "content": ""}})
            return
        await self._run(job, body, reply, _chat_piece)

    async def generate(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        check_images(body.get("images") or [])
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        messages = [*system, {"role": "user", "content": body.get("prompt") or ""}]
        job, model = self._job(request.path, body, messages)
        if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
            raise Refusal(400, "raw mode does not support template, system, or context")
        _require(model, "completion", job.name, verb="generate")
        if body.get("suffix"):
            _require(model, "insert", job.name)
        if not body.get("prompt"):
            await self._load_or_unload(job, reply, {"response": ""})
            return
        await self._run(job, body, reply, _generate_piece)

    def _job(self, path: str, body: dict[str, Any], messages: list[dict[str, Any]]) -> tuple[Job, Model]:
        """Check the fields that chat and generate share."""
        name = body.get("model") or ""
        check_think(body.get("think"))
        check_logprobs(body)
        keep_alive = parse_keep_alive(body.get("keep_alive"))
        model = self.find(name)
        if body.get("think"):
            _require(model, "thinking", name)
        prompt = str(messages[-1].get("content") or "") if messages else ""
        job = Job(
            model=model,
            name=name,
            messages=messages,
            options=parse_options(body.get("options") or {}, CONTEXT_LENGTH),
            keep_alive=keep_alive,
            format=check_format(body.get("format")),
            # Absent means enabled on capable models; only an explicit wish gets thoughts here, to keep answers plain.
            think=bool(body.get("think")),
            truncate=body.get("truncate") is not False,
            knobs=self.knobs_for(path, model, prompt),
        )
        return job, model

    def find(self, name: str) -> Model:
        model = self._catalogue.find(name) if name else None
        if model is None:
            raise Refusal(404, f"model '{name}' not found")
        return model

    def knobs_for(self, path: str, model: Model, prompt: str) -> Knobs:
        """Tag first, then prompt, then what was set by control."""
        return model.knobs.merged(knobs.in_prompt(prompt)).merged(self._controlled(path, model.name, prompt))

    async def _load_or_unload(self, job: Job, reply: Reply, empty: dict[str, Any]) -> None:
        """Answer in one JSON object without a newline, even when streaming."""
        await commit_early_fault(job.knobs, reply)
        if reply.has_begun:
            return
        if job.keep_alive == 0:
            self._scheduler.unload(job.model.name)
            reason = "unload"
        else:
            await self._turn(job)
            reason = "load"
        head = {"model": job.name, "created_at": timestamp()}
        reply.json(200, head | empty | {"done": True, "done_reason": reason})

    async def _turn(self, job: Job) -> float:
        """Load the model, wait for a slot, give it back; returns the seconds spent loading."""
        try:
            async with self._scheduler.turn(
                job.model,
                load_options=job.options.load_options,
                context_length=job.options.num_ctx,
                keep_alive=job.keep_alive,
            ) as turn:
                return turn.load_seconds
        except QueueFullError:
            raise Refusal(503, QUEUE_FULL) from None

    async def _run(
        self, job: Job, body: dict[str, Any], reply: Reply, piece: Callable[[str, str, Any], dict[str, Any]]
    ) -> None:
        wire = _native_format(job, piece, logprobs=bool(body.get("logprobs")), top=body.get("top_logprobs") or 0)
        await self._generator.run(job, reply, wire, stream=body.get("stream") is not False)

    # --- vectors ----------------------------------------------------------------------------------------------

    async def embed(self, request: Request, reply: Reply) -> None:
        started = time.monotonic()
        body = parse_body(request.body)
        texts = _embed_inputs(body.get("input"))
        name = body.get("model") or ""
        if not name or self._catalogue.find(name) is None:
            raise Refusal(404, "model '' not found" if not name else f'model "{name}" not found, try pulling it first')
        job, _ = self._job(
            request.path, {**body, "format": None}, [{"role": "user", "content": text} for text in texts]
        )
        vectors, tokens, load_seconds = await self.vectors(job, texts, body.get("dimensions"), reply)
        if reply.has_begun:
            return
        figures = {
            "total_duration": int((time.monotonic() - started) * 1e9),
            "load_duration": int(load_seconds * 1e9),
            "prompt_eval_count": tokens,
        }
        reply.json(200, {"model": name, "embeddings": vectors} | {key: n for key, n in figures.items() if n})
        for text in texts:
            self._stats.finished(text)

    async def vectors(
        self, job: Job, texts: list[str], dimensions: int | None, reply: Reply
    ) -> tuple[list[list[float]], int, float]:
        """Embed texts; returns the vectors, the tokens read, and the seconds spent loading."""
        await commit_early_fault(job.knobs, reply)
        if reply.has_begun or not texts:
            return [], 0, 0.0
        sizes = [answers.count_tokens(text) for text in texts]
        if not job.truncate and max(sizes) > job.options.num_ctx:
            raise Refusal(400, "the input length exceeds the context length")
        load_seconds = await self._turn(job)
        for text in texts:
            self._stats.started(text)
        if job.knobs.f:
            await asyncio.sleep(job.knobs.f / 1000)
        tokens = sum(min(size, job.options.num_ctx) for size in sizes)
        return [answers.vector(text, dimensions or EMBEDDING_DIMENSIONS) for text in texts], tokens, load_seconds

    async def embeddings(self, request: Request, reply: Reply) -> None:
        """The legacy form: one prompt, one vector."""
        body = parse_body(request.body)
        if not body.get("model"):
            raise Refusal(400, "model is required")
        if self._catalogue.find(body["model"]) is None:
            raise Refusal(404, f'model "{body["model"]}" not found, try pulling it first')
        texts = [body["prompt"]] if body.get("prompt") else []
        job, _ = self._job(request.path, body, [{"role": "user", "content": text} for text in texts])
        vectors, _, _ = await self.vectors(job, texts, None, reply)
        if not reply.has_begun:
            reply.json(200, {"embedding": vectors[0] if vectors else []})

    # --- models -----------------------------------------------------------------------------------------------

    async def root(self, request: Request, reply: Reply) -> None:
        reply.send(200, "text/plain; charset=utf-8", b"Ollama is running")

    async def version(self, request: Request, reply: Reply) -> None:
        reply.json(200, {"version": VERSION})

    async def tags(self, request: Request, reply: Reply) -> None:
        rows = [
            model.row(model.name) | {"modified_at": model.modified_at, "capabilities": list(model.capabilities)}
            for model in self._catalogue.all()
        ]
        reply.json(200, {"models": rows})

    async def ps(self, request: Request, reply: Reply) -> None:
        reply.json(200, {"models": self._scheduler.rows()})

    async def show(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        if not body.get("model"):
            raise Refusal(400, "model is required")
        model = self._catalogue.find(body["model"])
        if model is None:
            raise Refusal(404, f"model '{full_name(body['model'])}' not found")
        reply.json(
            200,
            {
                "modelfile": f"FROM {model.name}\nTEMPLATE {model.template}\n",
                "parameters": 'stop                           "<|user|>"',
                "template": model.template,
                "system": model.system,
                "license": "MIT",
                "details": model.details(),
                "model_info": {"general.architecture": "llama", "llama.context_length": CONTEXT_LENGTH},
                "capabilities": list(model.capabilities),
                "modified_at": model.modified_at,
            },
        )

    async def delete(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        if not body.get("model"):
            raise Refusal(400, "model is required")
        if not self._catalogue.delete(body["model"]):
            raise Refusal(404, f"model '{body['model']}' not found")
        self._scheduler.unload(full_name(body["model"]))
        reply.empty(200)

    async def copy(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        for name in ("source", "destination"):
            if not body.get(name):
                raise Refusal(400, f'{name} "" is invalid')
        source = self._catalogue.find(body["source"])
        if source is None:
            raise Refusal(404, f'model "{body["source"]}" not found')
        self._catalogue.copy(source, body["destination"])
        reply.empty(200)

    async def pull(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        name = _valid_name(body)
        steps: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if full_name(name) not in REGISTRY:
            await _progress(body, reply, [*steps, {"error": "pull model manifest: file does not exist"}])
            return
        model = self._catalogue.find(name) or make(name)
        short, size = model.digest[:12], model.size_bytes
        for step in range(PULL_STEPS + 1):
            done = {"completed": size * step // PULL_STEPS} if step else {}
            steps.append({"status": f"pulling {short}", "digest": f"sha256:{model.digest}", "total": size} | done)
        steps += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
        pace = self.knobs_for(request.path, model, "").d or 0
        await _progress(body, reply, steps, pace=pace, finish=lambda: self._catalogue.add(model))

    async def push(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        if not body.get("model"):
            raise Refusal(400, "model is required")
        steps: list[dict[str, Any]] = [{"status": "retrieving manifest"}]
        model = self._catalogue.find(body["model"])
        if model is None:
            await _progress(body, reply, [*steps, {"error": "couldn't retrieve manifest"}])
            return
        size = model.size_bytes
        steps += [{"status": f"pushing {model.digest[:12]}", "digest": f"sha256:{model.digest}", "total": size}]
        steps += [{"status": status} for status in ("pushing manifest", "success")]
        await _progress(body, reply, steps)

    async def create(self, request: Request, reply: Reply) -> None:
        body = parse_body(request.body)
        name = _valid_name(body)
        files = body.get("files") or {}
        if not body.get("from") and not files:
            raise Refusal(400, "neither 'from' or 'files' was specified")
        steps: list[dict[str, Any]] = [{"status": "gathering model components"}]
        if missing := [digest for digest in files.values() if digest not in self._catalogue.blobs]:
            await _progress(body, reply, [*steps, {"error": f"blob {missing[0]} not found"}])
            return
        source = self._catalogue.find(body["from"]) if body.get("from") else None
        if body.get("from") and source is None:
            await _progress(body, reply, [*steps, {"error": "pull model manifest: file does not exist"}])
            return
        model = self._catalogue.install(name)
        if source is not None:
            model.capabilities, model.parent = source.capabilities, source.name
        model.system, model.template = body.get("system") or "", body.get("template") or model.template
        await _progress(body, reply, [*steps, {"status": "writing manifest"}, {"status": "success"}])

    async def has_blob(self, request: Request, reply: Reply) -> None:
        reply.empty(200 if _digest(request) in self._catalogue.blobs else 404)

    async def upload_blob(self, request: Request, reply: Reply) -> None:
        digest = _digest(request)
        found = f"sha256:{hashlib.sha256(request.body).hexdigest()}"
        if found != digest:
            raise Refusal(400, f'digest mismatch, expected "{digest}", got "{found}"')
        is_new = digest not in self._catalogue.blobs
        self._catalogue.blobs.add(digest)
        reply.empty(201 if is_new else 200)


def _require(model: Model, capability: str, name: str, *, verb: str = "") -> None:
    if not model.can(capability):
        raise Refusal(400, f'"{name}" does not support {verb or capability}')


def _valid_name(body: dict[str, Any]) -> str:
    name = body.get("model") or ""
    if not name or any(character.isspace() for character in name):
        raise Refusal(400, "invalid model name")
    return str(name)


def _digest(request: Request) -> str:
    return request.path.rsplit("/", 1)[-1]


def _embed_inputs(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


async def _progress(
    body: dict[str, Any],
    reply: Reply,
    steps: list[dict[str, Any]],
    *,
    pace: int = 0,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Tell of steps, so many milliseconds apart; `finish` does what the last one tells."""
    is_whole = body.get("stream") is False
    for step in steps[:-1]:
        if not is_whole:
            reply.write(NDJSON, [_line(step)])
        await asyncio.sleep(pace / 1000)
    finish()
    last = steps[-1]
    if is_whole:
        reply.json(500 if "error" in last else 200, last)
        return
    reply.write(NDJSON, [_line(last)])
    reply.end()


def _line(value: dict[str, Any] | str, *, ascii_only: bool = False) -> bytes:
    """Encode as Go does: UTF-8, but U+2028 and U+2029 escaped. U+0085 is not, and breaks clients that split on it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text.encode("utf-8", "replace") + b"\n"


def _chat_piece(content: str, thinking: str, tool_call: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if tool_call:
        message["tool_calls"] = [{"id": "call_0", "function": {"index": 0} | tool_call}]
    return {"message": message}


def _generate_piece(content: str, thinking: str, tool_call: Any) -> dict[str, Any]:
    return {"response": content, "thinking": thinking} if thinking else {"response": content}


def _native_format(job: Job, piece: Callable[[str, str, Any], dict[str, Any]], *, logprobs: bool, top: int) -> Format:
    head = {"model": job.name, "created_at": timestamp()}
    line = functools.partial(_line, ascii_only=job.knobs.ascii is not None)

    # Encoding a token inside a ready-made line takes a third of the CPU of encoding the line.
    before, after = line(head | piece("\0", "", None) | {"done": False}).split(b"\\u0000")

    def render(answer: Answer, start: int, stop: int) -> bytes:
        text = "".join(answer.tokens[start:stop])
        if start < answer.thinking:
            return line(head | piece("", text, None) | {"done": False})
        if logprobs:
            tokens = [_logprob(token, top) for token in answer.tokens[start:stop]]
            return line(head | piece(text, "", None) | {"done": False, "logprobs": tokens})
        return before + line(text)[1:-2] + after

    def final(answer: Answer) -> dict[str, Any]:
        return {"done": True, "done_reason": answer.done_reason} | answer.usage()

    def last(answer: Answer) -> list[bytes]:
        return [line(head | piece("", "", answer.tool_call) | final(answer))]

    def whole(answer: Answer, done: bool) -> dict[str, Any]:
        value = head | piece(answer.text, answer.thoughts, answer.tool_call)
        if logprobs:
            value["logprobs"] = [_logprob(token, top) for token in answer.tokens]
        return value | (final(answer) if done else {"done": False})

    return Format(NDJSON, render, last, lambda text: line({"error": text}), whole)


def _logprob(token: str, top: int) -> dict[str, Any]:
    one = {"token": token, "logprob": -0.1, "bytes": list(token.encode("utf-8", "replace"))}
    return one | {"top_logprobs": [one] * top} if top else one
