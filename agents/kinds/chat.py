"""Conversation: the session's history, as much of it as fits, and the system prompt."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any

from agents.builtin.analysis import summarise
from agents.kinds.base import (
    CannotAnswer,
    Kind,
    Outcome,
    Work,
    clean_text,
    cut_to_fit,
    estimate_tokens,
    model_options,
    prompt_budget,
)
from agents.models import AgentTask, AgentVersion, ChatMessage
from agents.ollama.types import ChatChunk, JsonObject, Message

PAGE_EXCHANGES = 20
# What a summary of left-out exchanges is made of and how long it may be.
SUMMARY_EXCHANGES = 50
SUMMARY_SENTENCES = 6
SUMMARY_SHARE = 8  # an eighth of the budget
SUMMARY_HEADING = "Summary of the earlier conversation: "


@dataclass(frozen=True)
class Exchange:
    """A question of the session and its answer."""

    question: str
    answer: str

    @property
    def tokens(self) -> int:
        return estimate_tokens(self.question) + estimate_tokens(self.answer)

    @property
    def messages(self) -> tuple[Message, Message]:
        return Message(role="user", content=self.question), Message(role="assistant", content=self.answer)


@dataclass(frozen=True)
class Context:
    """The messages to send, oldest first, and whether anything was left out or shortened."""

    messages: tuple[Message, ...]
    is_truncated: bool


class Chat(Kind):
    name = "chat"
    label = "Chat"
    has_sessions = True

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        return {"message": clean_text(data, "message", version)}

    def estimate_prompt(self, task: AgentTask, *, at_most: int) -> int:
        tokens = super().estimate_prompt(task, at_most=at_most)
        is_beginning = task.session is None or task.session._state.adding
        for exchange in () if is_beginning else history(task):
            if tokens >= at_most:
                break
            tokens += exchange.tokens
        return tokens

    def run(self, work: Work) -> Generator[ChatChunk, None, Outcome]:
        message = work.task.input["message"]
        context = fit_context(work.version, history(work.task), message, budget_tokens=prompt_budget(work))
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
            yield Exchange(content[ChatMessage.Role.USER], content[ChatMessage.Role.ASSISTANT])
        before = page[-1].task_id


def fit_context(version: AgentVersion, earlier: Iterable[Exchange], message: str, *, budget_tokens: int) -> Context:
    """Choose what of a conversation the model is shown, by the version's truncation policy.

    earlier: newest first. budget_tokens: what system prompt, history and message may take together.
    Raises CannotAnswer when the policy is to refuse what does not fit.
    """
    remaining = iter(earlier)
    system = version.system_prompt
    left = budget_tokens - estimate_tokens(message) - (estimate_tokens(system) if system else 0)
    is_truncated = left < 0
    kept: list[Exchange] = []
    for exchange in remaining:
        if exchange.tokens > left:
            is_truncated = True
            remaining = chain([exchange], remaining)
            break
        kept.append(exchange)
        left -= exchange.tokens
    if is_truncated and version.truncation == AgentVersion.Truncation.REJECT:
        raise CannotAnswer(
            "context-overflow",
            f"The conversation does not fit into the {budget_tokens} tokens that the model can read at once.",
        )
    if is_truncated and version.truncation == AgentVersion.Truncation.COMPACT:
        kept, summary = _compact(kept, remaining, left, room=budget_tokens // SUMMARY_SHARE)
        system = "\n\n".join(filter(None, (system, summary)))
    first = [Message(role="system", content=system)] if system else []
    history_messages = [item for exchange in reversed(kept) for item in exchange.messages]
    return Context(
        messages=(*first, *history_messages, Message(role="user", content=message)), is_truncated=is_truncated
    )


def _compact(kept: list[Exchange], dropped: Iterable[Exchange], left: int, *, room: int) -> tuple[list[Exchange], str]:
    """Make room for a summary: what is still kept word by word, and the summary of the rest. All newest first."""
    still_kept = list(kept)
    summarised: list[Exchange] = []
    while still_kept and left < room:
        oldest = still_kept.pop()
        summarised.insert(0, oldest)
        left += oldest.tokens
    summarised.extend(islice(dropped, max(0, SUMMARY_EXCHANGES - len(summarised))))
    return still_kept, _summary(summarised, min(left, room))


def _summary(exchanges: Sequence[Exchange], tokens: int) -> str:
    """Summarise exchanges in so many tokens; empty where there is nothing or no room."""
    oldest_first = [f"{exchange.question}\n{exchange.answer}" for exchange in reversed(exchanges)]
    summary = summarise("\n".join(oldest_first), sentences=SUMMARY_SENTENCES)
    text = cut_to_fit(SUMMARY_HEADING + summary, tokens)
    return text if len(text) > len(SUMMARY_HEADING) else ""
