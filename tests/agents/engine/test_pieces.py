from hypothesis import given
from hypothesis import strategies as st

from agents.engine.pieces import chunk_of, join, piece_of
from agents.ollama.types import ChatChunk, ToolCall

words = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=9)
calls = st.builds(
    ToolCall,
    name=words,
    arguments=st.dictionaries(words, st.integers(), max_size=2),
    id=words,
    index=st.integers(0, 9),
)
chunks = st.builds(
    ChatChunk,
    text=words,
    thinking=words,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    logprobs=st.lists(st.fixed_dictionaries({"token": words}), max_size=2).map(tuple),
)


@given(chunks)
def test_a_chunk_comes_back_from_its_piece(chunk):
    assert chunk_of(piece_of(chunk)) == chunk


@given(st.lists(chunks, max_size=5))
def test_pieces_joined_hold_everything_in_its_order(chunks):
    joined = chunk_of(join(map(piece_of, chunks)))
    assert joined.text == "".join(chunk.text for chunk in chunks)
    assert joined.thinking == "".join(chunk.thinking for chunk in chunks)
    assert joined.tool_calls == tuple(call for chunk in chunks for call in chunk.tool_calls)
    assert joined.logprobs == tuple(item for chunk in chunks for item in chunk.logprobs)


def test_what_is_empty_makes_no_piece():
    assert piece_of(ChatChunk(done=True, done_reason="stop")) == {}
    assert join([]) == {}
