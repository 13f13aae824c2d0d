"""POST /v1/completions of OpenAI, the older form for a prompt without turns."""

from collections.abc import Iterable

from agents.gateway.formats import openai_shared as shared
from agents.gateway.formats.base import Format, Identity, Truth, Wanted, gather, text_to_json, to_bytes, to_json
from agents.gateway.formats.ollama_shared import found_model, model_missing
from agents.gateway.formats.reading import CallRefused, Fields
from agents.ollama.types import ChatChunk, JsonObject


def parse(body: JsonObject) -> Wanted:
    """Read a request."""
    fields = Fields(body)
    model = found_model(fields)
    prompt = _prompt(fields)
    shared.refuse_several(fields, "n")
    shared.refuse_several(fields, "best_of")
    call: JsonObject = {"operation": "generate", "prompt": prompt}
    if suffix := fields.text("suffix"):
        call["suffix"] = suffix
    if options := shared.sampling(fields, "max_tokens"):
        call["options"] = options
    if (top := fields.integer("logprobs")) is not None:
        if not 0 <= top <= 20:
            raise CallRefused("logprobs must be between 0 and 20", param="logprobs")
        call |= {"logprobs": True, "top_logprobs": top}
    echo = prompt if fields.flag("echo") else ""
    if echo and top is not None:
        raise fields.refusal("echo", "cannot be had with logprobs; those of the prompt are not known")
    return Wanted(
        model=model,
        call=call,
        streams=bool(fields.flag("stream")),
        shape={"include_usage": shared.includes_usage(fields), "echo": echo},
        ignored=shared.ignored_fields(fields),
    )


def _prompt(fields: Fields) -> str:
    prompt = fields.value.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise fields.refusal("prompt", "must be one string")
    if not prompt:
        raise fields.refusal("prompt", "is empty")
    return prompt


class CompletionsEncoder(shared.EventEncoder):
    """Writes a completion or its chunks. The format has no place for what a model thought."""

    def __init__(self, identity: Identity, shape: JsonObject) -> None:
        super().__init__(identity, shape)
        self._echo: str = shape.get("echo", "")
        self._offset = 0  # in characters, of the next token
        self._head: JsonObject = {
            "id": f"cmpl-{identity.task_id.hex}",
            "object": "text_completion",
            "created": int(identity.created.timestamp()),
            "model": identity.model,
            "system_fingerprint": shared.FINGERPRINT,
        }
        self._before = f'data: {to_json(self._head)[:-1]},"choices":[{{"index":0,"text":'
        self._after = ',"logprobs":null,"finish_reason":null}]}\n\n'

    def start(self) -> bytes:
        return self._text(self._echo) if self._echo else b""

    def piece(self, chunk: ChatChunk) -> bytes:
        if not (chunk.text or chunk.logprobs):
            return b""
        self.has_begun = True
        if chunk.logprobs:
            return shared.data_event({**self._head, "choices": [self._choice(chunk, None)]})
        return self._text(chunk.text)

    def end(self, chunk: ChatChunk, truth: Truth) -> bytes:
        self.is_over = True
        choice = self._choice(chunk, shared.finish_reason(chunk))
        events = [shared.data_event({**self._head, "choices": [choice], "sutazai": truth.body()})]
        if self.shape.get("include_usage"):
            events.append(shared.data_event({**self._head, "choices": [], "usage": shared.usage(chunk)}))
        return b"".join([*events, shared.DONE])

    def whole(self, chunks: Iterable[ChatChunk], truth: Truth) -> bytes:
        answer = gather(chunks)
        choice = self._choice(answer, shared.finish_reason(answer))
        choice["text"] = self._echo + answer.text
        rest = {"choices": [choice], "usage": shared.usage(answer), "sutazai": truth.body()}
        return to_bytes({**self._head, **rest})

    def _text(self, text: str) -> bytes:
        return f"{self._before}{text_to_json(text)}{self._after}".encode("ascii")

    def _choice(self, chunk: ChatChunk, reason: str | None) -> JsonObject:
        logprobs = self._logprobs(chunk.logprobs) if chunk.logprobs else None
        return {"index": 0, "text": chunk.text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, tokens: Iterable[JsonObject]) -> JsonObject:
        """Write log probabilities in the older form: lists side by side."""
        rows = shared.token_logprobs(tokens)
        offsets = []
        for row in rows:
            offsets.append(self._offset)
            self._offset += len(row["token"])
        return {
            "tokens": [row["token"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "top_logprobs": [{top["token"]: top["logprob"] for top in row["top_logprobs"]} for row in rows],
            "text_offset": offsets,
        }


FORMAT = Format(shared.DIALECT, parse, CompletionsEncoder, model_missing)
