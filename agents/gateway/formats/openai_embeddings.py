"""POST /v1/embeddings of OpenAI."""

from agents.gateway.formats import ollama_shared, vectors
from agents.gateway.formats import openai_shared as shared
from agents.gateway.formats.base import Format, Truth, Wanted, to_json
from agents.gateway.formats.reading import CallRefused, Fields
from agents.ollama.types import JsonObject


def parse(body: JsonObject) -> Wanted:
    """Read a request. Lists of token numbers are refused: only the model's own server knows what they mean."""
    fields = Fields(body)
    model = ollama_shared.found_model(fields)
    texts = vectors.inputs(fields)
    if not texts:
        raise CallRefused("invalid input: input must hold at least one text", param="input")
    encoding = fields.text("encoding_format").lower()
    if encoding not in {"", "float", "base64"}:
        text = f"Invalid value for 'encoding_format' = {encoding[:40]}. Supported values: ['float', 'base64']."
        raise CallRefused(text, param="encoding_format")
    call: JsonObject = {"operation": "embed", "input": texts}
    if dimensions := fields.integer("dimensions", least=1, most=vectors.MAX_DIMENSIONS):
        call["dimensions"] = dimensions
    ignored = shared.ignored_fields(fields)
    return Wanted(model=model, call=call, shape={"is_base64": encoding == "base64"}, ignored=ignored)


class EmbeddingsEncoder(vectors.VectorEncoder):
    """Writes the vectors as lists or as base64 of little-endian float32."""

    def whole(self, answer: vectors.Embedded, truth: Truth) -> bytes:
        write = vectors.as_base64 if self.shape.get("is_base64") else vectors.numbers
        rows = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":{write(row)}}}'
            for index, row in enumerate(answer.rows())
        )
        rest = {
            "model": self.identity.model,
            "usage": {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens},
            "sutazai": truth.body(),
        }
        return f'{{"object":"list","data":[{rows}],{to_json(rest)[1:]}'.encode("ascii")


FORMAT = Format(shared.DIALECT, parse, EmbeddingsEncoder, ollama_shared.embedder_missing)
