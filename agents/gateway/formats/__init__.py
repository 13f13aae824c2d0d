"""Foreign wire formats, by the paths that other servers have them under. `base` shows how a door uses one."""

from agents.gateway.formats import (
    ollama_chat,
    ollama_embed,
    ollama_generate,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from agents.gateway.formats.base import Encoder, Format
from agents.gateway.formats.vectors import VectorEncoder

TEXT_FORMATS: dict[str, Format[Encoder]] = {
    "/api/chat": ollama_chat.FORMAT,
    "/api/generate": ollama_generate.FORMAT,
    "/v1/chat/completions": openai_chat.FORMAT,
    "/v1/completions": openai_completions.FORMAT,
    "/v1/responses": openai_responses.FORMAT,
}
VECTOR_FORMATS: dict[str, Format[VectorEncoder]] = {
    "/api/embed": ollama_embed.FORMAT,
    "/api/embeddings": ollama_embed.LEGACY_FORMAT,
    "/v1/embeddings": openai_embeddings.FORMAT,
}
