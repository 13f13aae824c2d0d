"""Answers a question without a language model: by quotation from the handbook, openly."""

import re
from collections.abc import Iterator

from agents.builtin import analysis
from agents.builtin.retrieval import IGNORED, Passage, search
from agents.builtin.words import word_set, words

NOTICE = "No language model answers here: this is the built-in model, which quotes the handbook."
INSTRUCTIONS_NOTICE = " The agent's instructions need a language model and were not followed."
ABILITIES = (
    "I can look things up in the handbook, for example “How do I add a node?” or “How do I create an API key?”, and "
    "pick out the main sentences and keywords of a text that begins with “Summarise:”."
)
NEXT_STEP = (
    "To get answers from a real language model, add an Ollama node: in the console, Nodes → Add, or on the command "
    "line, `manage.py register_node --name N --url U`."
)
# Tried with questions about the product and about the rest of the world: passages below it are about other things.
ENOUGH = 0.24
# A second passage is quoted too when it fits nearly as well as the first.
NEARLY_AS_GOOD = 0.97
PIECE_WORDS = 6
# A question stands at the beginning. What follows is material, and must not water down what was asked.
QUESTION_CHARACTERS = 4_000

_GREETINGS = word_set(
    "hello hi hey hiya greetings good morning afternoon evening day there hallo guten tag morgen moin servus salut "
    "bonjour hola buenos días ciao olá hej cześć привет здравствуйте привіт 你好 こん んに にち ちは test ping"
)
_GREETING_MAX_WORDS = 4
_SUMMARISE = re.compile(r"\A\s*(?:please )?(?:summari[sz]e|tl;?dr)\b[^:\n]{0,80}[:\n]", re.IGNORECASE)
# The end of a line within a paragraph or a list's item: what follows begins no item, no code and no new paragraph.
_WRAPPED = re.compile(r"(?<=\S)\n(?: {2,3})?(?![-\s]|\d+\. |    )")
_PIECE = re.compile(rf"(?:\S+\s*){{1,{PIECE_WORDS}}}")


def answer(question: str, *, system_prompt: str = "") -> Iterator[str]:
    """Yield an answer in groups of words; joined, they are the whole text, in Markdown.

    The same question always gets the same answer. The system prompt cannot be followed without a language model; when
    there is one, the answer says so.
    """
    notice = NOTICE + (INSTRUCTIONS_NOTICE if system_prompt.strip() else "")
    yield from _PIECE.findall(f"{notice}\n\n{_body(question)}")


def _body(question: str) -> str:
    asked = words(question[:QUESTION_CHARACTERS])
    if 0 < len(asked) <= _GREETING_MAX_WORDS and _GREETINGS.issuperset(asked):
        return f"Hello! {ABILITIES}\n\n{NEXT_STEP}"
    if IGNORED.issuperset(asked):  # no word that says what it is about, or none at all: "what can you do?"
        return f"{ABILITIES}\n\n{NEXT_STEP}"
    if command := _SUMMARISE.match(question):
        return _summary(question[command.end() :])
    passages = [passage for passage in search(" ".join(asked)) if passage.score >= ENOUGH]
    if not passages:
        return _nothing_found(question)
    quoted = [p for p in passages if p.score >= NEARLY_AS_GOOD * passages[0].score][:2]
    parts = [_quotation(passage) for passage in quoted]
    if others := passages[len(quoted) :]:
        parts.append("See also: " + "; ".join(_citation(passage) for passage in others) + ".")
    return "\n\n".join(parts)


def _summary(text: str) -> str:
    summary = analysis.summarise(text)
    if not summary:
        return "There is no text to summarise: put it after “Summarise:”."
    keywords = ", ".join(analysis.keywords(text))
    return f"These sentences of the text say most:\n\n> {summary}" + (f"\n\nKeywords: {keywords}" if keywords else "")


def _nothing_found(question: str) -> str:
    english = analysis.language(question) in ("en", "und")
    reason = "" if english else " The handbook is in English, and so must questions to it be."
    return f"The handbook has nothing that fits this question.{reason} {NEXT_STEP}"


def _quotation(passage: Passage) -> str:
    text = _WRAPPED.sub(" ", passage.text)
    quoted = "\n".join(f"> {line}".rstrip() for line in text.splitlines())
    return f"{quoted}\n\n— {_citation(passage)}"


def _citation(passage: Passage) -> str:
    return f"Handbook, {passage.document}: “{passage.heading}”"
