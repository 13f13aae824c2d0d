import base64
import struct

import pytest

from agents.kinds.base import CannotAnswer, Work
from agents.kinds.model_call import Call, ModelCall
from agents.models import AgentTask, AgentVersion
from agents.ollama.types import ChatChunk, ChatRequest, EmbedRequest, EmbedResult, GenerateRequest, ToolCall
from core.exceptions import InvalidInput

Truncation = AgentVersion.Truncation
HELLO = [{"role": "user", "content": "hello"}]


class Window:
    """A model as far as a call looks at it."""

    is_builtin = False

    def __init__(self, context_tokens: int = 4096, *, knows_context: bool = True) -> None:
        self.context_tokens = context_tokens
        self.knows_context = knows_context


def clean(data, **version):
    return ModelCall().clean(data, AgentVersion(**version))


def call_of(data, *, window=None, **version):
    made = AgentVersion(**version)
    task = AgentTask(model="tiny:latest", input=ModelCall().clean(data, made))
    return Call.of(Work(task, made, window or Window()))


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "operation"),
        ({"operation": "pull"}, "operation"),
        ({"operation": "chat", "messages": "hi"}, "messages"),
        ({"operation": "chat", "messages": ["hi"]}, "messages[0]"),
        ({"operation": "chat", "messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"operation": "chat", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"operation": "chat", "messages": [{"role": "user", "tool_calls": ["x"]}]}, "messages[0].tool_calls"),
        ({"operation": "chat", "messages": [{"role": "user", "images": [5]}]}, "messages[0].images"),
        ({"operation": "chat", "messages": HELLO, "owner": "me"}, "owner"),
        ({"operation": "chat", "messages": HELLO, "client": {}}, "client"),
        ({"operation": "embed", "input": ["hi"], "parts": []}, "parts"),
        ({"operation": "chat", "messages": HELLO, "options": {"temperature": {}}}, "options"),
        ({"operation": "chat", "messages": HELLO, "top_logprobs": True}, "top_logprobs"),
        ({"operation": "chat", "messages": [{"role": "user", "content": "a\x00b"}]}, "input"),
        ({"operation": "chat", "messages": HELLO, "format": {"a": ["\ud800"]}}, "input"),
        ({"operation": "generate", "prompt": ["hi"]}, "prompt"),
        ({"operation": "embed", "input": "hi"}, "input"),
        ({"operation": "embed", "input": [5]}, "input"),
        ({"operation": "embed", "input": ["x"] * 2049}, "input"),
    ],
)
def test_odd_input_is_refused_by_the_name_of_its_field(data, field):
    with pytest.raises(InvalidInput) as refusal:
        clean(data)
    assert field in refusal.value.errors


@pytest.mark.parametrize(
    "data",
    [
        {"operation": "chat", "messages": [{"role": "user", "content": "x" * 11}]},
        {"operation": "generate", "prompt": "x" * 11},
        {"operation": "embed", "input": ["x", "x" * 11]},
    ],
)
def test_texts_are_as_long_as_the_version_allows(data):
    with pytest.raises(InvalidInput):
        clean(data, max_message_characters=10)
    assert clean(data, max_message_characters=11)


def test_what_is_null_counts_as_not_given():
    assert clean({"operation": "chat", "messages": HELLO, "format": None}) == {"operation": "chat", "messages": HELLO}


def test_a_caller_s_options_go_over_the_version_s_but_never_load_a_model_anew():
    asked = {
        "operation": "chat",
        "messages": HELLO,
        "options": {"temperature": 1, "num_ctx": 99, "num_gpu": 0, "top_k": 5},
    }
    call = call_of(asked, options={"temperature": 0, "num_ctx": 2048})
    assert call.request.options == {"temperature": 1, "num_ctx": 2048, "top_k": 5}


@pytest.mark.parametrize(("asked", "sent"), [(None, 7), (5, 5), (9, 7), (-1, 7)])
def test_an_answer_is_as_long_as_the_version_allows(asked, sent):
    options = {} if asked is None else {"num_predict": asked}
    call = call_of({"operation": "chat", "messages": HELLO, "options": options}, max_output_tokens=7)
    assert call.request.options["num_predict"] == sent


def test_an_agent_s_instructions_come_first():
    messages = [{"role": "system", "content": "Rhyme."}, *HELLO]
    request = call_of({"operation": "chat", "messages": messages}, system_prompt="Be brief.").request
    assert isinstance(request, ChatRequest)
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "Be brief.\n\nRhyme."),
        ("user", "hello"),
    ]
    generated = call_of(
        {"operation": "generate", "prompt": "x", "system": "Rhyme."}, system_prompt="Be brief."
    ).request
    assert isinstance(generated, GenerateRequest)
    assert generated.system == "Be brief.\n\nRhyme."


def conversation(turns: int, words: int = 100) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    for number in range(turns):
        messages.append({"role": "user", "content": f"question {number} " + "word " * words})
        messages.append({"role": "assistant", "content": f"answer {number} " + "word " * words})
    return [*messages, {"role": "user", "content": "and now?"}]


def test_the_oldest_turns_go_where_not_all_fit():
    asked = {"operation": "chat", "messages": [{"role": "system", "content": "Rhyme."}, *conversation(20)]}
    call = call_of(asked, window=Window(1000), truncation=Truncation.FLAG)
    assert isinstance(call.request, ChatRequest)
    roles = [message.role for message in call.request.messages]
    assert (roles[0], roles[1], roles[-1]) == ("system", "user", "user")
    assert call.request.messages[-2].content.startswith("answer 19")
    assert call.is_truncated
    assert call.estimate <= 750
    assert call.outcome().is_truncated


def test_to_reject_is_to_refuse_what_does_not_fit():
    with pytest.raises(CannotAnswer) as refusal:
        call_of({"operation": "chat", "messages": conversation(20)}, window=Window(1000), truncation=Truncation.REJECT)
    assert refusal.value.code == "context-overflow"
    with pytest.raises(CannotAnswer):
        call_of({"operation": "generate", "prompt": "word " * 2000}, window=Window(1000), truncation=Truncation.REJECT)


def test_to_compact_is_to_summarise_the_oldest():
    asked = {"operation": "chat", "messages": conversation(20)}
    call = call_of(asked, window=Window(1000), truncation=Truncation.COMPACT)
    assert isinstance(call.request, ChatRequest)
    assert call.request.messages[0].content.startswith("Summary of the earlier conversation")
    assert call.is_truncated


def test_results_of_tools_stay_with_their_calls():
    asked_for = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]}
    messages = [
        *conversation(10)[:-1],
        {"role": "user", "content": "look"},
        asked_for,
        {"role": "tool", "content": "found"},
    ]
    call = call_of({"operation": "chat", "messages": messages}, window=Window(600), truncation=Truncation.FLAG)
    assert isinstance(call.request, ChatRequest)
    assert [message.role for message in call.request.messages][-3:] == ["user", "assistant", "tool"]


def test_where_the_window_is_unknown_everything_is_sent():
    asked = {"operation": "chat", "messages": conversation(50)}
    call = call_of(asked, window=Window(knows_context=False), truncation=Truncation.REJECT)
    assert isinstance(call.request, ChatRequest)
    assert len(call.request.messages) == 101
    assert not call.is_truncated


def test_a_prompt_that_filled_the_window_was_cut_by_the_server():
    call = call_of({"operation": "chat", "messages": HELLO}, window=Window(100))
    call.took(ChatChunk(done=True, done_reason="stop", prompt_tokens=100))
    assert call.outcome().is_truncated


def test_thoughts_and_tool_calls_are_kept():
    call = call_of({"operation": "chat", "messages": HELLO})
    call.took(ChatChunk(thinking="h"))
    call.took(ChatChunk(thinking="m", tool_calls=(ToolCall("look", {"at": "it"}, id="1"),)))
    call.took(ChatChunk(text="done", done=True, done_reason="stop"))
    assert call.outcome().output == {
        "done_reason": "stop",
        "thinking": "hm",
        "tool_calls": [{"id": "1", "name": "look", "arguments": {"at": "it"}}],
    }


def test_vectors_come_back_as_they_were():
    call = call_of({"operation": "embed", "input": ["a", "b"]})
    assert isinstance(call.request, EmbedRequest)
    rows = [[0.5, -0.25, 1.0], [0.0, 2.0, 0.125]]
    result = EmbedResult(model="m", embeddings=rows, prompt_tokens=2, total_seconds=0.0, load_seconds=0.0)
    output = call.embedded(result).output
    assert output is not None
    assert (output["count"], output["dimensions"]) == (2, 3)
    assert list(struct.unpack("<6f", base64.b64decode(output["embeddings"]))) == rows[0] + rows[1]
