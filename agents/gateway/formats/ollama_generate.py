"""POST /api/generate of Ollama."""

from agents.gateway.formats import ollama_shared as shared
from agents.gateway.formats.base import Format, Wanted
from agents.gateway.formats.reading import CallRefused, Fields, image
from agents.ollama.types import ChatChunk, JsonObject


def parse(body: JsonObject) -> Wanted:
    """Read a request. Without a prompt it only loads the model, which Ollama answers with one object in any case."""
    fields = Fields(body)
    streams = fields.flag("stream") is not False
    model = shared.found_model(fields)
    call: JsonObject = {"operation": "generate", "prompt": fields.text("prompt")}
    for name in ("suffix", "system", "template"):
        if text := fields.text(name):
            call[name] = text
    if images := fields.items("images"):
        call["images"] = [image(data, f"images[{number}]") for number, data in enumerate(images)]
    if (raw := fields.flag("raw")) is not None:
        call["raw"] = raw
    _check_context(fields, call)
    more, ignored = shared.generation_fields(fields)
    return Wanted(model=model, call=call | more, streams=streams and bool(call["prompt"]), ignored=ignored)


def _check_context(fields: Fields, call: JsonObject) -> None:
    has_context = bool(fields.items("context"))
    if call.get("raw") and (has_context or "template" in call or "system" in call):
        raise CallRefused("raw mode does not support template, system, or context", param="raw")
    if has_context:
        # Deprecated by Ollama, and of use on the very node alone that made it.
        raise fields.refusal("context", "is not supported; send the conversation to /api/chat")


class GenerateEncoder(shared.LineEncoder):
    """Writes the answer."""

    text_body = '"response":TEXT'

    @staticmethod
    def body(chunk: ChatChunk) -> JsonObject:
        body: JsonObject = {"response": chunk.text}
        return body | {"thinking": chunk.thinking} if chunk.thinking else body


FORMAT = Format(shared.DIALECT, parse, GenerateEncoder, shared.model_missing)
