"""POST /api/embed of Ollama, and its older form, /api/embeddings."""

from agents.gateway.formats import ollama_shared as shared
from agents.gateway.formats.base import Format, Truth, Wanted, to_json
from agents.gateway.formats.reading import Fields
from agents.gateway.formats.vectors import MAX_DIMENSIONS, Embedded, VectorEncoder, inputs, numbers
from agents.ollama.types import JsonObject


def parse(body: JsonObject) -> Wanted:
    """Read a request of /api/embed. An empty input, text or list, has an empty answer."""
    fields = Fields(body)
    model = shared.found_model(fields)
    texts = [] if body.get("input") == "" else inputs(fields)
    call: JsonObject = {"operation": "embed", "input": texts}
    if dimensions := fields.integer("dimensions", least=0, most=MAX_DIMENSIONS):
        call["dimensions"] = dimensions
    if (truncate := fields.flag("truncate")) is not None:
        call["truncate"] = truncate
    more, ignored = shared.runtime_fields(fields)
    return Wanted(model=model, call=call | more, ignored=ignored)


def parse_legacy(body: JsonObject) -> Wanted:
    """Read a request of /api/embeddings."""
    fields = Fields(body)
    model = shared.required_model(fields)
    prompt = fields.text("prompt")
    more, ignored = shared.runtime_fields(fields)
    call: JsonObject = {"operation": "embed", "input": [prompt] if prompt else []}
    return Wanted(model=model, call=call | more, ignored=ignored)


class EmbedEncoder(VectorEncoder):
    """Writes all vectors."""

    def whole(self, answer: Embedded, truth: Truth) -> bytes:
        figures = shared.durations(total_duration=answer.total_seconds, load_duration=answer.load_seconds)
        if answer.prompt_tokens:
            figures["prompt_eval_count"] = answer.prompt_tokens
        rest = to_json({**figures, "sutazai": truth.body()})[1:]
        rows = ",".join(map(numbers, answer.rows()))
        return f'{{"model":{to_json(self.identity.model)},"embeddings":[{rows}],{rest}'.encode("ascii")


class LegacyEncoder(VectorEncoder):
    """Writes the only vector."""

    def whole(self, answer: Embedded, truth: Truth) -> bytes:
        row = next(map(numbers, answer.rows()), "[]")
        return f'{{"embedding":{row},"sutazai":{to_json(truth.body())}}}'.encode("ascii")


FORMAT = Format(shared.DIALECT, parse, EmbedEncoder, shared.embedder_missing)
LEGACY_FORMAT = Format(shared.DIALECT, parse_legacy, LegacyEncoder, shared.embedder_missing)
