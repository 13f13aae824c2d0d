import pytest

from agents.kinds.base import clean_text, cut_to_fit, estimate_tokens, prompt_budget
from agents.models import AgentVersion
from core.exceptions import InvalidInput
from tests.agents.kinds.conftest import ScriptedModel

VERSION = AgentVersion(max_message_characters=10)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": 7}, "text"),
        ({"text": None}, "text"),
        ({"text": ["a"]}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "a\ud800b"}, "text"),
        ({"text": "x" * 11}, "text"),
        ({"text": "fine", "texts": "?"}, "texts"),
    ],
)
def test_it_refuses_what_is_no_text_of_the_allowed_size(data, field):
    with pytest.raises(InvalidInput) as refusal:
        clean_text(data, "text", VERSION)
    assert list(refusal.value.errors) == [field]


def test_it_keeps_a_text_as_it_is():
    assert clean_text({"text": " 10 chars "}, "text", VERSION) == " 10 chars "


@pytest.mark.parametrize("text", ["word " * 400, "слово " * 300, "語" * 500, "🙂" * 200, ""])
def test_a_text_cut_to_fit_is_the_longest_beginning_that_nearly_fits(text):
    cut = cut_to_fit(text, 100)
    assert text.startswith(cut)
    assert estimate_tokens(cut) <= 100
    assert cut == text or estimate_tokens(cut) > 90


def test_nothing_is_left_where_nothing_fits():
    assert cut_to_fit("word", -5) == ""


def test_other_scripts_are_estimated_to_take_more_tokens():
    assert estimate_tokens("語" * 100) > estimate_tokens("x" * 100)


@pytest.mark.parametrize(
    ("version", "budget"),
    [
        ({}, 3000),
        ({"max_output_tokens": 500}, 3500),
        ({"max_output_tokens": 100_000}, 2000),
        ({"options": {"num_predict": 500}}, 3500),
        ({"options": {"num_predict": -1}}, 3000),
    ],
)
def test_the_prompt_leaves_room_for_the_answer(make_work, version, budget):
    assert prompt_budget(make_work(ScriptedModel(context_tokens=4000), {}, **version)) == budget
