"""What of a conversation fits into a model's context window, by an agent's truncation policy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

from agents.builtin.analysis import summarise
from agents.kinds.base import CannotAnswer, cut_to_fit, estimate_tokens
from agents.models import AgentVersion
from agents.ollama.protocol import encode, tool_call_body
from agents.ollama.types import Message

# What a summary of left-out exchanges is made of and how long it may be.
SUMMARY_EXCHANGES = 50
SUMMARY_SENTENCES = 6
SUMMARY_SHARE = 8  # an eighth of the budget
SUMMARY_HEADING = "Summary of the earlier conversation: "

# A guess on the high side: models take between 256 and 1,600 tokens for a picture.
IMAGE_TOKENS = 1024


@dataclass(frozen=True)
class Exchange:
    """Messages that belong together: a question and its answer, with the tool calls between them."""

    messages: tuple[Message, ...]

    @cached_property
    def tokens(self) -> int:
        return sum(map(message_tokens, self.messages))

    @property
    def text(self) -> str:
        return "\n".join(message.content for message in self.messages if message.content)


@dataclass(frozen=True)
class Context:
    """The messages to send, oldest first, and whether anything was left out or shortened."""

    messages: tuple[Message, ...]
    is_truncated: bool


def message_tokens(message: Message) -> int:
    """Estimate what a message takes, on the high side."""
    tokens = estimate_tokens(message.content) + len(message.images) * IMAGE_TOKENS
    if message.thinking:
        tokens += estimate_tokens(message.thinking)
    return tokens + sum(estimate_tokens(encode(tool_call_body(call)).decode()) for call in message.tool_calls)


def fit(
    policy: str, *, system: str, earlier: Iterable[Exchange], last: Sequence[Message], budget_tokens: int
) -> Context:
    """Choose what of a conversation the model is shown.

    policy: one of AgentVersion.Truncation. earlier: newest first; it is read no further than it fits. last: what is
    sent in any case. budget_tokens: what all of it may take.
    Raises CannotAnswer when the policy is to refuse what does not fit.
    """
    remaining = iter(earlier)
    left = budget_tokens - sum(map(message_tokens, last)) - (estimate_tokens(system) if system else 0)
    is_truncated = left < 0
    kept: list[Exchange] = []
    for exchange in remaining:
        if exchange.tokens > left:
            is_truncated = True
            remaining = chain([exchange], remaining)
            break
        kept.append(exchange)
        left -= exchange.tokens
    if is_truncated and policy == AgentVersion.Truncation.REJECT:
        raise CannotAnswer(
            "context-overflow",
            f"The conversation does not fit into the {budget_tokens} tokens that the model can read at once.",
        )
    if is_truncated and policy == AgentVersion.Truncation.COMPACT:
        kept, summary = _compact(kept, remaining, left, room=budget_tokens // SUMMARY_SHARE)
        system = "\n\n".join(filter(None, (system, summary)))
    first = [Message(role="system", content=system)] if system else []
    history = [message for exchange in reversed(kept) for message in exchange.messages]
    return Context(messages=(*first, *history, *last), is_truncated=is_truncated)


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
    oldest_first = [exchange.text for exchange in reversed(exchanges)]
    summary = summarise("\n".join(oldest_first), sentences=SUMMARY_SENTENCES)
    text = cut_to_fit(SUMMARY_HEADING + summary, tokens)
    return text if len(text) > len(SUMMARY_HEADING) else ""
