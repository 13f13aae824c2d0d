"""Conversation: the session's history, as much of it as fits, and the system prompt."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.builtin.analysis import summarise
from agents.kinds.base import CannotAnswer, Kind, Outcome, Work, clean_text, estimate_tokens, model_options
from agents.models import AgentTask, AgentVersion, ChatMessage
from agents.ollama.types import JsonObject, Message

HISTORY_LIMIT = 200  # messages; older ones fit no context window that a conversation fills
SUMMARY_SENTENCES = 6


@dataclass(frozen=True)
class Context:
    """The messages to send, oldest first, and whether any turn was left out or shortened."""

    messages: tuple[Message, ...]
    is_truncated: bool


class Chat(Kind):
    name = "chat"
    label = "Chat"
    has_sessions = True

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        return {"message": clean_text(data, "message", version)}

    def run(self, work: Work) -> Generator[str, None, Outcome]:
        context = fit_context(
            work.version, history(work.task), work.task.input["message"], budget_tokens=_prompt_budget(work)
        )
        last = None
        for last in work.model.chat(context.messages, options=model_options(work.version)):
            if last.text:
                yield last.text
        was_cut = last is not None and last.done_reason == "length"
        return Outcome(is_truncated=context.is_truncated or was_cut, notes={"context_messages": len(context.messages)})


def history(task: AgentTask) -> list[ChatMessage]:
    """The turns of the session that were answered before this task was asked, oldest first."""
    if task.session_id is None:
        return []
    answered = ChatMessage.objects.filter(
        session_id=task.session_id, task__status=AgentTask.Status.SUCCEEDED, task_id__lt=task.pk
    )
    return list(reversed(answered.order_by("-task_id", "-id")[:HISTORY_LIMIT]))


def fit_context(version: AgentVersion, turns: Sequence[ChatMessage], message: str, *, budget_tokens: int) -> Context:
    """Choose what of a conversation the model is shown, by the version's truncation policy.

    budget_tokens: what system prompt, history and message may take together.
    Raises CannotAnswer when the policy is to refuse what does not fit.
    """
    system = [Message(role="system", content=version.system_prompt)] if version.system_prompt else []
    question = Message(role="user", content=message)
    left = budget_tokens - sum(estimate_tokens(item.content) for item in [*system, question])
    kept: list[Message] = []
    for turn in reversed(turns):
        left -= estimate_tokens(turn.content)
        if left < 0:
            break
        kept.insert(0, Message(role=turn.role, content=turn.content))
    if left >= 0:
        return Context(messages=(*system, *kept, question), is_truncated=False)
    if version.truncation == AgentVersion.Truncation.REJECT:
        raise CannotAnswer(
            "context-overflow", f"The conversation exceeds the model's window of {budget_tokens} tokens."
        )
    dropped = turns[: len(turns) - len(kept)]
    if version.truncation == AgentVersion.Truncation.COMPACT and dropped:
        system.append(_summary(dropped))
    return Context(messages=(*system, *kept, question), is_truncated=True)


def _summary(turns: Sequence[ChatMessage]) -> Message:
    text = summarise("\n".join(turn.content for turn in turns), sentences=SUMMARY_SENTENCES)
    return Message(role="system", content=f"Summary of the earlier conversation: {text}")


def _prompt_budget(work: Work) -> int:
    """Leave room for the answer: its limit where there is one, else a quarter of the window."""
    window = work.model.context_tokens
    return window - min(work.version.max_output_tokens or window // 4, window // 2)
