import json
import subprocess
import sys

import pytest

from agents.builtin.answer import NOTICE, PIECE_WORDS, answer


def reply(question: str, system_prompt: str = "") -> str:
    return "".join(answer(question, system_prompt=system_prompt))


QUESTIONS = ["How do I add a node?", "How tall is Mount Everest?", "hello", ""]


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_always_says_that_no_language_model_is_connected(question: str) -> None:
    assert reply(question).startswith(NOTICE)


def test_it_quotes_the_handbook_and_names_the_section() -> None:
    text = reply("How do I add an Ollama node?")

    assert "> - In the console: Nodes → Add." in text
    paragraph = (
        "> The node's models are read from the server and shown on its page. An address that is not an Ollama server"
    )
    assert f"{paragraph} is refused with a clear message." in text
    assert "Handbook, Nodes and models: “Add an Ollama node”" in text


@pytest.mark.parametrize(
    "question",
    [
        "How tall is Mount Everest?",
        "Write a Python function that sorts a list",
        "What is the meaning of life?",
        "What is the key to happiness?",
        "Tell me about the history of the Roman empire",
        "How do I change a flat tyre?",
        "Give me a recipe for pancakes",
    ],
)
def test_it_quotes_nothing_where_the_handbook_does_not_fit_and_says_what_to_do(question: str) -> None:
    text = reply(question)

    assert "nothing that fits" in text
    assert "Nodes → Add" in text
    assert "\n>" not in text


def test_it_tells_who_asks_in_another_language_that_the_handbook_is_english() -> None:
    assert "in English" in reply("Wie wird das Wetter morgen in der Stadt?")


@pytest.mark.parametrize("greeting", ["hello", "Hi there!", "Guten Tag", "¡Hola!", "привет", "こんにちは", "HEY"])
def test_it_greets_back_and_says_what_it_can_do(greeting: str) -> None:
    text = reply(greeting)

    assert "Hello!" in text
    assert "handbook" in text.split("Hello!")[1]


@pytest.mark.parametrize("question", ["Who are you?", "What can you do?", "", " \n", "?!", "🙂"])
def test_it_says_what_it_can_do_where_nothing_in_particular_was_asked(question: str) -> None:
    text = reply(question)

    assert "I can look things up" in text
    assert "Hello!" not in text


def test_it_summarises_a_text_that_comes_with_the_request() -> None:
    text = reply("Please summarise this: Bees make honey. Bees live in hives. Bees need honey in winter. Rain fell.")

    assert "Bees make honey." in text
    assert "Rain fell" not in text
    assert "Keywords:" in text
    assert "no text to summarise" in reply("Summarise:")


def test_it_admits_that_it_did_not_follow_the_system_prompt() -> None:
    assert "were not followed" in reply("What is a receipt?", system_prompt="Answer as a pirate.")
    assert "were not followed" not in reply("What is a receipt?")


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_comes_in_small_pieces_and_is_the_same_every_time(question: str) -> None:
    pieces = list(answer(question))

    assert pieces == list(answer(question))
    assert len(pieces) > 5
    assert all(1 <= len(piece.split()) <= PIECE_WORDS for piece in pieces)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        ".",
        "\n",
        "a@",
        "1,",
        "http://",
        '."',
        "Ab of ",
        "中",
        "İ",
        "e\u0301",
        "\ud800",
        "\x00",
        "Summarise: ",
    ],
)
@pytest.mark.parametrize("command", ["", "Summarise: "])
def test_huge_and_hostile_questions_get_an_answer_that_can_be_stored(unit: str, command: str) -> None:
    text = reply(command + unit * (100_000 // len(unit)))

    assert text.startswith(NOTICE)
    assert len(text) < 10_000
    assert "\x00" not in text
    json.dumps(text, ensure_ascii=False).encode()


def test_a_megabyte_is_answered() -> None:
    assert "nothing that fits" in reply("lorem ipsum " * 80_000)


def test_importing_it_reads_no_handbook_and_needs_no_framework() -> None:
    program = (
        "import sys, agents.builtin.answer as a, agents.builtin.retrieval as r;"
        "print(r.handbook.cache_info().currsize, any(m.split('.')[0] in ('django', 'requests') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "False"]
