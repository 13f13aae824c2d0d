"""Finds the sections of the handbook that fit a question (BM25)."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from agents.builtin.words import STOP_WORDS, word_set, words

HANDBOOK = Path(__file__).resolve().parents[2] / "docs" / "handbook"

# The usual parameters of BM25: how fast repeated words stop counting, and how much long sections are held back.
K1 = 1.2
B = 0.75
HEADING_WEIGHT = 4  # a word of the heading counts as so many of the text

# Words of questions that say nothing about their subject.
IGNORED = STOP_WORDS["en"] | word_set(
    "another anything best does everything explain get give happen happened happens help instead make mean meaning "
    "means need please possible question say see tell thing things time use want way work works"
)
# What people say, and the word that the handbook has for it; both are looked up.
_SYNONYMS = {
    "abort": "cancel",
    "address": "url",
    "capacity": "slots",
    "computer": "machine",
    "conversation": "session",
    "disconnected": "broken",
    "incomplete": "cut",
    "gpu": "node",
    "job": "housekeeping",
    "login": "sign",
    "monitor": "health",
    "offline": "down",
    "postgres": "postgresql",
    "reconnect": "resume",
    "rollback": "version",
    "server": "node",
    "stuck": "queued",
    "timeout": "deadline",
    "token": "key",
    "upgrade": "grow",
}


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of the handbook. score: how much of what was asked it holds, 0 to 1."""

    document: str
    heading: str
    text: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Index:
    """The sections, and where each stem stands: pairs of section number and BM25 weight, 0 to 1."""

    passages: tuple[Passage, ...]
    postings: dict[str, tuple[tuple[int, float], ...]]

    def rarity(self, stemmed: str) -> float:
        """BM25's inverse document frequency; highest for words that the handbook does not know."""
        frequency = len(self.postings.get(stemmed, ()))
        return math.log(1 + (len(self.passages) - frequency + 0.5) / (frequency + 0.5))


def search(query: str, limit: int = 3) -> list[Passage]:
    """Return the sections that fit the query best, best first; none where no word of it is in the handbook.

    A score is BM25 divided by the highest that the query could reach, so words that the handbook does not know lower
    it, and scores of different queries compare.
    """
    index = handbook()
    scores: defaultdict[int, float] = defaultdict(float)
    reachable = 0.0
    for word in {word for word in words(query) if word not in IGNORED}:
        best: dict[int, float] = {}
        for term in {stem(word), stem(_SYNONYMS.get(word.removesuffix("s"), word))}:
            rarity = index.rarity(term)
            for number, weight in index.postings.get(term, ()):
                best[number] = max(best.get(number, 0.0), rarity * weight)
        reachable += index.rarity(stem(word))
        for number, score in best.items():
            scores[number] += score
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [replace(index.passages[number], score=round(score / reachable, 4)) for number, score in ranked]


@cache
def handbook() -> Index:
    """Read and index the handbook once per process; empty where an installation has left it out."""
    return build_index(tuple(p for path in sorted(HANDBOOK.glob("*.md")) for p in sections(path.read_text("utf-8"))))


def sections(markdown: str) -> Iterator[Passage]:
    """Split a page at its second-level headings. What stands before the first has the page's title as heading."""
    title = heading = ""
    lines: list[str] = []
    for line in [*markdown.splitlines(), "## "]:
        if not line.startswith(("# ", "## ")):
            lines.append(line)
            continue
        if text := "\n".join(lines).strip("\n"):
            yield Passage(title, heading, text)
        heading = line.lstrip("#").strip()
        title = heading if line.startswith("# ") else title
        lines = []


def build_index(passages: tuple[Passage, ...]) -> Index:
    counts = []
    for passage in passages:
        count = Counter(stem(word) for word in words(f"{passage.document}\n{passage.text}"))
        for word in words(passage.heading):
            count[stem(word)] += HEADING_WEIGHT
        counts.append(count)
    mean_length = sum(count.total() for count in counts) / (len(counts) or 1)
    postings: dict[str, list[tuple[int, float]]] = {}
    for number, count in enumerate(counts):
        held_back = K1 * (1 - B + B * count.total() / mean_length)
        for term, times in count.items():
            postings.setdefault(term, []).append((number, times / (times + held_back)))
    return Index(passages, {term: tuple(places) for term, places in postings.items()})


def stem(word: str) -> str:
    """Cut English endings, so that "keys" finds "key" and "truncated" finds "truncation". Others stay as they are."""
    if not word.isascii() or len(word) < 4:
        return word
    word = word.removesuffix("'s")
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("ss", "ss"), ("us", "us"), ("s", "")):
        if word.endswith(ending):
            word = word.removesuffix(ending) + replacement
            break
    for ending in ("ing", "ion", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) > 2 and not set(base).isdisjoint("aeiouy"):
            word = base[:-1] if base[-1] == base[-2] and base[-1] not in "ls" else base
            break
    return word.removesuffix("e")
