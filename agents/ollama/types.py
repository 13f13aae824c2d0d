"""What is said to Ollama and what it answers. Durations in seconds (Ollama sends nanoseconds), sizes in bytes."""

from dataclasses import dataclass, field
from typing import Any

from core.net import calls

JsonObject = dict[str, Any]

# The options with which a model is loaded. A change of one makes the server load it anew, for everybody, so callers
# never choose them. use_mlock and numa are those of older servers.
LOAD_OPTIONS = frozenset(
    {
        "draft_num_predict",
        "main_gpu",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_thread",
        "numa",
        "use_mlock",
        "use_mmap",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(calls.Timeouts):
    """Seconds of silence that each phase of a call may last.

    first_byte: a model may be loading (Ollama gives up after 5 minutes) and nothing comes before the first token.
    gap: between two pieces of a stream.
    probe: each phase of version, tags and ps, which Ollama answers from memory.
    control: each phase of show, copy and delete, which read or write the server's disk.
    """

    first_byte: float = 330.0
    gap: float = 120.0
    probe: float = 3.0
    control: float = 30.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called; arguments is an object, not a JSON string."""

    name: str
    arguments: JsonObject
    id: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat. role: system, user, assistant or tool. images: bare base64, no data URI."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """POST /api/chat. What is None or empty is left out, so that the model's own defaults hold.

    messages: oldest first; none loads the model, and with keep_alive 0 unloads it.
    tools: OpenAI's tool objects. format: "json" or a JSON schema. keep_alive: seconds, or "5m"; negative is forever.
    think: True, False, or "low", "medium", "high", "max". truncate: False refuses what exceeds the context.
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[JsonObject, ...] = ()
    format: str | JsonObject | None = None
    options: JsonObject = field(default_factory=dict)
    keep_alive: float | str | None = None
    think: bool | str | None = None
    truncate: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """POST /api/generate: one prompt without turns. `raw` excludes `system` and `template`."""

    model: str
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool | None = None
    images: tuple[str, ...] = ()
    format: str | JsonObject | None = None
    options: JsonObject = field(default_factory=dict)
    keep_alive: float | str | None = None
    think: bool | str | None = None
    truncate: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """POST /api/embed. truncate: False refuses texts that exceed the context instead of cutting them silently."""

    model: str
    inputs: tuple[str, ...]
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: float | str | None = None
    options: JsonObject = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class ChatChunk:
    """One piece of an answer to chat or generate; counts and durations are set on the last, the one with `done`.

    done_reason: stop, length, load or unload; tool calls end with stop too.
    prompt_tokens: what the model read, after any silent truncation.
    """

    model: str = ""
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[JsonObject, ...] = ()
    done: bool = False
    done_reason: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    total_seconds: float = 0.0
    load_seconds: float = 0.0
    prompt_eval_seconds: float = 0.0
    eval_seconds: float = 0.0

    @property
    def has_output(self) -> bool:
        """True if this piece carries something that the model made."""
        return bool(self.text or self.thinking or self.tool_calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedResult:
    """One unit-length vector per input, in the order of the inputs."""

    model: str
    embeddings: list[list[float]]
    prompt_tokens: int
    total_seconds: float
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a pull, push or create; byte counts only while something is transferred."""

    status: str
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0

    @property
    def done(self) -> bool:
        """True if all is done."""
        return self.status == "success"

    @property
    def has_output(self) -> bool:
        """False: a step of progress is nothing that the model made."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a model is made of, as Ollama words it ("llama", "1B", "Q4_0")."""

    family: str = ""
    families: tuple[str, ...] = ()
    format: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    parent_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel:
    """A row of /api/tags. modified_at: RFC 3339. capabilities: empty also when the server is too old to say."""

    name: str
    digest: str = ""
    size_bytes: int = 0
    modified_at: str = ""
    details: Details = field(default_factory=Details)
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A row of /api/ps. context_length: 0 when the server is too old to say. expires_at: RFC 3339."""

    name: str
    digest: str = ""
    size_bytes: int = 0
    vram_bytes: int = 0
    expires_at: str = ""
    context_length: int = 0
    details: Details = field(default_factory=Details)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """What /api/show knows. parameters: the Modelfile's lines. context_length: the most the model was trained for."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    license: str = ""
    modified_at: str = ""
    details: Details = field(default_factory=Details)
    capabilities: tuple[str, ...] = ()
    model_info: JsonObject = field(default_factory=dict)

    @property
    def context_length(self) -> int:
        """Tokens, from the key "<architecture>.context_length"; 0 when unknown."""
        key = f"{self.model_info.get('general.architecture', '')}.context_length"
        value = self.model_info.get(key, 0)
        return value if isinstance(value, int) else 0
