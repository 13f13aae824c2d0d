"""Conversation: the session's history, as much of it as fits, and the system prompt."""

from collections.abc import Generator, Iterator, Mapping
from itertools import groupby
from typing import Any

from agents.kinds.base import Kind, Outcome, Work, clean_text, model_options, prompt_budget
from agents.kinds.context import Exchange, fit
from agents.models import AgentTask, AgentVersion, ChatMessage
from agents.ollama.types import ChatChunk, JsonObject, Message

PAGE_EXCHANGES = 20


class Chat(Kind):
    name = "chat"
    label = "Chat"
    has_sessions = True

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        return {"message": clean_text(data, "message", version)}

    def estimate_prompt(self, task: AgentTask, *, at_most: int) -> int:
        tokens = super().estimate_prompt(task, at_most=at_most)
        is_beginning = task.session is None or task.session._state.adding
        for earlier in () if is_beginning else history(task):
            if tokens >= at_most:
                break
            tokens += earlier.tokens
        return tokens

    def run(self, work: Work) -> Generator[ChatChunk, None, Outcome]:
        message = work.task.input["message"]
        context = fit(
            work.version.truncation,
            system=work.version.system_prompt,
            earlier=history(work.task),
            last=[Message(role="user", content=message)],
            budget_tokens=prompt_budget(work),
        )
        last = None
        for last in work.model.chat(context.messages, options=model_options(work.version)):
            yield last
        was_cut = last is not None and last.done_reason == "length"
        return Outcome(is_truncated=context.is_truncated or was_cut, notes={"context_messages": len(context.messages)})


def history(task: AgentTask) -> Iterator[Exchange]:
    """Read the session's earlier exchanges, newest first; questions without an answer are none.

    Reads a page at a time: most of a long conversation fits no context window.
    """
    if task.session_id is None:
        return
    answered = ChatMessage.objects.filter(session_id=task.session_id, task__status=AgentTask.Status.SUCCEEDED)
    before = task.pk
    # A page holds whole exchanges: an answered task has exactly two messages.
    while page := list(answered.filter(task_id__lt=before).order_by("-task_id")[: 2 * PAGE_EXCHANGES]):
        for _, messages in groupby(page, key=lambda message: message.task_id):
            content = {message.role: message.content for message in messages}
            yield exchange(content[ChatMessage.Role.USER], content[ChatMessage.Role.ASSISTANT])
        before = page[-1].task_id


def exchange(question: str, answer: str) -> Exchange:
    return Exchange((Message(role="user", content=question), Message(role="assistant", content=answer)))
