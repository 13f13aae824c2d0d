"""What every kind of agent has in common.

A kind checks the input of a task and does its work. It talks to the model that the engine chose for it and yields its
answer piece by piece; the engine writes the pieces down, sends them on, and deals with failure, time and money.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from agents.models import AgentTask, AgentVersion
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest, EmbedResult, GenerateRequest, JsonObject, Message
from core.exceptions import InvalidInput

# What neither PostgreSQL nor UTF-8 can hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Model(Protocol):
    """The model that a task was given, wherever it runs.

    context_tokens: how many tokens it reads at once; a guess on the low side unless `knows_context`.
    """

    is_builtin: bool
    context_tokens: int
    knows_context: bool

    def ask(self, request: ChatRequest | GenerateRequest) -> Iterator[ChatChunk]:
        """Stream the model's answer; the last chunk is the one with `done`. Raises OllamaError."""

    def embed(self, request: EmbedRequest) -> EmbedResult:
        """Turn texts into vectors. Raises OllamaError, CannotAnswer."""

    def chat(
        self, messages: tuple[Message, ...], *, options: JsonObject, schema: JsonObject | None = None
    ) -> Iterator[ChatChunk]:
        """Ask with messages; schema: a JSON schema that the answer is to follow. As `ask`."""


@dataclass(frozen=True)
class Work:
    """A task in the hands of its kind."""

    task: AgentTask
    version: AgentVersion
    model: Model


@dataclass(frozen=True)
class Outcome:
    """What there is to say about an answer besides its text.

    output: the answer as data, for kinds that give some. notes: figures for the receipt.
    """

    output: JsonObject | None = None
    is_truncated: bool = False
    is_degraded: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class CannotAnswer(Exception):
    """The kind gives up for good, for a reason that the asker can act on; another try would end the same."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Kind(ABC):
    """A kind of agent. `name` stands in rows and in the API and never changes."""

    name: ClassVar[str]
    label: ClassVar[str]
    has_sessions: ClassVar[bool] = False

    @abstractmethod
    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        """Check a task's input and return what to store. Raises core.exceptions.InvalidInput."""

    def input_of(self, call: JsonObject) -> JsonObject:
        """Make the input of what a client of Ollama sends, as `kinds.model_call` has it. Raises InvalidInput."""
        raise InvalidInput({"model": [f"Agents of the kind {self.name!r} are not asked in this format."]})

    def estimate_prompt(self, task: AgentTask, *, at_most: int) -> int:
        """Estimate how many tokens the prompt of a task takes that was not run yet; beyond `at_most` it may stop."""
        texts = [task.version.system_prompt, *(text for text in task.input.values() if isinstance(text, str))]
        return sum(estimate_tokens(text) for text in texts if text)

    @abstractmethod
    def run(self, work: Work) -> Generator[ChatChunk, None, Outcome]:
        """Do the work: yield the answer piece by piece, return what else there is to say.

        Runs again from the start after a crash, so it may have no effects of its own.
        Raises CannotAnswer, or OllamaError as the model's calls do.
        """


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens a text takes, on the high side.

    About 3.5 ASCII characters each, 2 bytes each of anything else, and 4 around a message.
    """
    size = len(text.encode())
    ascii_size = size if text.isascii() else len(text.encode("ascii", "ignore"))
    return math.ceil(ascii_size / 3.5 + (size - ascii_size) / 2) + 4


def cut_to_fit(text: str, tokens: int) -> str:
    """Keep as much of a text's beginning as fits into so many tokens, by estimate."""
    while text and (size := estimate_tokens(text)) > tokens:
        text = text[: len(text) * max(0, tokens - 4) // size]
    return text


def prompt_budget(work: Work) -> int:
    """How many tokens the prompt may take, so that the answer has room: its limit, else a quarter of the window."""
    window = work.model.context_tokens
    limit = model_options(work.version).get("num_predict")
    wanted = limit if isinstance(limit, int) and limit > 0 else window // 4
    return window - min(wanted, window // 2)


def clean_text(data: Mapping[str, Any], name: str, version: AgentVersion) -> str:
    """Check the one text that a task's input consists of. Raises InvalidInput."""
    if unknown := sorted(set(data) - {name}):
        raise InvalidInput({field: ["Unknown field."] for field in unknown})
    text = data.get(name)
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput({name: ["Write some text."]})
    if _UNSTORABLE.search(text):
        raise InvalidInput({name: ["Null characters and lone surrogates are not allowed."]})
    if len(text) > version.max_message_characters:
        raise InvalidInput({name: [f"At most {version.max_message_characters} characters; this has {len(text)}."]})
    return text


def model_options(version: AgentVersion) -> JsonObject:
    """Ollama options of a version, its output limit included."""
    options = dict(version.options)
    if version.max_output_tokens is not None:
        options["num_predict"] = version.max_output_tokens
    return options
