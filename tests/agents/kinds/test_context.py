import pytest

from agents.kinds.base import CannotAnswer, estimate_tokens
from agents.kinds.chat import exchange
from agents.kinds.context import SUMMARY_HEADING, Exchange, fit
from agents.models import AgentVersion
from agents.ollama.types import Message, ToolCall

Truncation = AgentVersion.Truncation

ANSWER = "The harvest of olives begins in October. " * 5


def exchanges(count):
    """Newest first, as the history gives them."""
    return [exchange(f"Question {number}?", f"In year {number} it is so. {ANSWER}") for number in range(count, 0, -1)]


def fitted(version, earlier, message, *, budget_tokens):
    return fit(
        version.truncation,
        system=version.system_prompt,
        earlier=earlier,
        last=[Message(role="user", content=message)],
        budget_tokens=budget_tokens,
    )


def contents(context):
    return [message.content for message in context.messages]


def total_tokens(context):
    return sum(estimate_tokens(content) for content in contents(context))


def test_a_conversation_that_fits_is_sent_whole_and_in_order():
    version = AgentVersion(system_prompt="Be brief.")
    context = fitted(version, exchanges(2), "And now?", budget_tokens=4000)
    assert [message.role for message in context.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert contents(context)[1:4:2] == ["Question 1?", "Question 2?"]
    assert contents(context)[-1] == "And now?"
    assert not context.is_truncated


def test_to_reject_is_to_refuse_what_does_not_fit():
    with pytest.raises(CannotAnswer) as refusal:
        fitted(AgentVersion(truncation=Truncation.REJECT), exchanges(20), "And now?", budget_tokens=500)
    assert refusal.value.code == "context-overflow"


def test_to_reject_refuses_a_message_that_is_too_long_by_itself():
    with pytest.raises(CannotAnswer):
        fitted(AgentVersion(truncation=Truncation.REJECT), [], "word " * 2000, budget_tokens=500)


def test_to_flag_is_to_keep_the_newest_whole_exchanges_and_say_so():
    version = AgentVersion(truncation=Truncation.FLAG, system_prompt="Be brief.")
    context = fitted(version, exchanges(20), "And now?", budget_tokens=500)
    assert context.is_truncated
    assert context.messages[1].role == "user"
    assert contents(context)[-3:-1] == ["Question 20?", f"In year 20 it is so. {ANSWER}"]
    assert 300 < total_tokens(context) <= 500


def test_a_message_that_is_too_long_by_itself_is_sent_alone_and_flagged():
    context = fitted(AgentVersion(truncation=Truncation.FLAG), exchanges(3), "word " * 2000, budget_tokens=500)
    assert contents(context) == ["word " * 2000]
    assert context.is_truncated


def test_to_compact_is_to_summarise_the_oldest_within_the_budget():
    version = AgentVersion(truncation=Truncation.COMPACT, system_prompt="Be brief.")
    answers = (
        f"Harvest {number} of olives from the hills above Split was late in October. " * 4 for number in range(40)
    )
    earlier = [exchange(f"Question {40 - number}?", answer) for number, answer in enumerate(answers)]
    context = fitted(version, earlier, "And now?", budget_tokens=800)
    instructions = contents(context)[0]
    assert instructions.startswith(f"Be brief.\n\n{SUMMARY_HEADING}")
    assert "olives" in instructions
    assert estimate_tokens(instructions) > 90  # exchanges were given up to make room for it
    assert contents(context)[-3] == "Question 40?"
    assert context.is_truncated
    assert total_tokens(context) <= 800


def test_to_compact_without_room_for_a_summary_sends_the_message_alone():
    version = AgentVersion(truncation=Truncation.COMPACT)
    context = fitted(version, exchanges(3), "word " * 2000, budget_tokens=500)
    assert contents(context) == ["word " * 2000]
    assert context.is_truncated


def test_a_conversation_that_fits_is_not_summarised():
    context = fitted(AgentVersion(truncation=Truncation.COMPACT), exchanges(3), "And now?", budget_tokens=4000)
    assert SUMMARY_HEADING not in contents(context)[0]
    assert not context.is_truncated


def test_pictures_thoughts_and_tool_calls_take_room_too():
    plain = Exchange((Message(role="user", content="Look."), Message(role="assistant", content="A cat.")))
    call = ToolCall(name="describe", arguments={"what": "word " * 100})
    rich = Exchange(
        (
            Message(role="user", content="Look.", images=("aGk=",)),
            Message(role="assistant", content="A cat.", thinking="word " * 100, tool_calls=(call,)),
        )
    )
    assert rich.tokens > plain.tokens + 1000 + 2 * 100
