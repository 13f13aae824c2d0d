from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.kinds.base import Work
from agents.models import AgentTask, AgentVersion
from agents.ollama.errors import OllamaError
from agents.ollama.types import ChatChunk, JsonObject, Message


class ScriptedModel:
    """Says what it was told to say, one answer for each call; an error is raised."""

    is_builtin = False

    def __init__(self, *answers: str | OllamaError, context_tokens: int = 4096) -> None:
        self.context_tokens = context_tokens
        self.prompts: list[tuple[Message, ...]] = []
        self._answers = list(answers)

    def chat(
        self, messages: tuple[Message, ...], *, options: JsonObject, schema: JsonObject | None = None
    ) -> Iterator[ChatChunk]:
        self.prompts.append(messages)
        answer = self._answers.pop(0)
        if isinstance(answer, OllamaError):
            raise answer
        yield ChatChunk(text=answer)
        yield ChatChunk(done=True, done_reason="stop")


@pytest.fixture
def make_work() -> Callable[..., Work]:
    """A task that stands nowhere but in memory, as its kind gets it."""

    def make(model: Any, task_input: JsonObject, *, attempts: int = 0, **version: Any) -> Work:
        task = AgentTask(input=task_input, attempts=attempts)
        return Work(task=task, version=AgentVersion(**version), model=model)

    return make
