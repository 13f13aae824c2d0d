"""Text analysis by classical methods: sentences, phrases, word lists and rules. Time grows as the text does."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple, TypedDict

from agents.builtin import lexicon
from agents.builtin.words import ALL_STOP_WORDS, STOP_WORDS, is_unspaced, split_sentences, storable, words

EntityType = Literal["person", "organisation", "place", "date", "email", "url", "number", "other"]


class Entity(TypedDict):
    text: str
    type: EntityType


class Sentiment(TypedDict):
    label: Literal["positive", "neutral", "negative"]
    score: float


MAX_SENTENCE_CHARACTERS = 400
MAX_PHRASE_WORDS = 3
MAX_NAME_WORDS = 6  # longer runs of capitals are headlines
MAX_ENTITIES = 100
LANGUAGE_SAMPLE_CHARACTERS = 20_000
NEUTRAL_BELOW = 0.1
NEGATION_REACH_WORDS = 3


def analyse(text: str) -> dict[str, Any]:
    """Return what the other functions of this module find, by name: what the text-analysis agent answers with."""
    return {
        "summary": summarise(text),
        "keywords": keywords(text),
        "entities": entities(text),
        "sentiment": sentiment(text),
        "language": language(text),
    }


def summarise(text: str, sentences: int = 3) -> str:
    """Return the sentences that hold most of the text's frequent words, in their order; overlong ones end with "…"."""
    unique = list(dict.fromkeys(split_sentences(text)))
    content = [{word for word in words(sentence) if word not in ALL_STOP_WORDS} for sentence in unique]
    frequency = Counter(word for found in content for word in found)

    def weight(number: int) -> float:
        # Five words of grace keep very short sentences from winning by a single frequent word.
        mean = sum(frequency[word] for word in content[number]) / (len(content[number]) + 5)
        return mean if number else mean * 1.2  # texts like to begin with what they are about

    best = sorted(sorted(range(len(unique)), key=weight, reverse=True)[:sentences])
    return " ".join(_clipped(unique[number]) for number in best)


def _clipped(sentence: str) -> str:
    if len(sentence) <= MAX_SENTENCE_CHARACTERS:
        return sentence
    return sentence[: MAX_SENTENCE_CHARACTERS - 1].rstrip() + "…"


def keywords(text: str, limit: int = 8) -> list[str]:
    """Return the phrases that tell what a text is about, best first, in lower case.

    Candidates stand between stop words and punctuation, as in RAKE (Rose et al., 2010). They are weighted by how often
    they and their words occur, since RAKE's own weight prefers whatever is long and rare.
    """
    phrases = Counter(_phrases(text))
    frequency: Counter[str] = Counter()
    for phrase, times in phrases.items():
        frequency.update(dict.fromkeys(phrase, times))

    def weight(phrase: tuple[str, ...]) -> float:
        mean = sum(frequency[word] for word in phrase) / len(phrase)
        return phrases[phrase] * mean * math.sqrt(len(phrase))

    chosen: list[tuple[str, ...]] = []
    for phrase in sorted(phrases, key=lambda phrase: (-weight(phrase), phrase)):
        if len(chosen) >= limit:
            break
        if not any(set(phrase) <= set(other) or set(other) <= set(phrase) for other in chosen):
            chosen.append(phrase)
    return [" ".join(phrase) for phrase in chosen]


def _phrases(text: str) -> Iterator[tuple[str, ...]]:
    for kind in ("url", "email"):
        text = _PATTERNS[kind].sub("\n", text)
    for clause in _CLAUSE_END.split(text):
        phrase: list[str] = []
        for word in words(clause):
            if is_unspaced(word):
                yield (word,)
            elif word in ALL_STOP_WORDS or len(word) < 3 or word.isnumeric():
                yield from _windows(phrase)
                phrase = []
            else:
                phrase.append(word[:60])
        yield from _windows(phrase)


_CLAUSE_END = re.compile(r"[^\w\s'’\-]+|\n")


def _windows(phrase: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(phrase), MAX_PHRASE_WORDS):
        yield tuple(phrase[start : start + MAX_PHRASE_WORDS])


# Spelt with either first letter: ignoring case for the whole pattern makes it ten times slower.
_MONTH = "(?:" + "|".join(f"[{name[0].upper()}{name[0]}]{name[1:]}" for name in sorted(lexicon.MONTHS)) + ")"
# Each begins where no character of its own kind stands before, so a long run is tried once and not at every place.
_PATTERNS: dict[EntityType, re.Pattern[str]] = {
    "url": re.compile(r"\b(?:https?://|www\.)[^\s<>\"]{1,2000}"),
    "email": re.compile(r"(?<![\w.+\-])[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,5}"),
    "date": re.compile(
        rf"(?<![\w.\-/])(?=\w)(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
        rf"|\d{{1,2}}(?:\.|st|nd|rd|th)? (?:de )?{_MONTH}(?:,? (?:de )?\d{{4}})?"
        rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:, ?\d{{4}})?|{_MONTH} \d{{4}})(?!\w)"
    ),
    "number": re.compile(r"(?<![\w.,])[-+]?\d{1,30}(?:[.,]\d{1,30}){0,10} ?%?(?!\w)"),
}
_NAME_WORD = re.compile(r"[^\W\d_]+(?:['’\-&][^\W\d_]+)*")


def entities(text: str) -> list[Entity]:
    """Return what has a name or a value, each once, in order of appearance; at most a hundred.

    Names are capitalised words, sorted by titles, first names, legal forms and known places; "other" where none of
    these tells. Fewer are found in German, whose nouns are all capitalised, and none in scripts without capitals.
    """
    text = storable(text)
    found: list[tuple[int, str, EntityType]] = []
    for kind, pattern in _PATTERNS.items():
        found.extend((m.start(), m.group().rstrip(" .,;:!?)'\""), kind) for m in pattern.finditer(text))
        text = pattern.sub(lambda match: "|" * len(match.group()), text)
    found.extend(_names(text, capitalises_nouns=language(text) == "de"))
    unique = dict.fromkeys((value, kind) for _, value, kind in sorted(found))
    return [Entity(text=value, type=kind) for value, kind in list(unique)[:MAX_ENTITIES]]


class _Name(NamedTuple):
    """A run of capitalised words, with the particles between them. before: the word in front of it, in lower case."""

    words: list[re.Match[str]]
    before: str
    begins_sentence: bool


def _names(text: str, *, capitalises_nouns: bool) -> Iterator[tuple[int, str, EntityType]]:
    for name in _capitalised_runs(text):
        parts = [word for word in name.words if word.group().lower() not in lexicon.TITLES]
        kind = _name_type(name, [word.group() for word in parts], capitalises_nouns=capitalises_nouns)
        if kind:
            yield parts[0].start(), " ".join(text[parts[0].start() : parts[-1].end()].split()), kind


def _name_type(name: _Name, parts: list[str], *, capitalises_nouns: bool) -> EntityType | None:
    lower = [part.lower() for part in parts]
    if not parts or len(parts) > MAX_NAME_WORDS or not (lexicon.MONTHS | lexicon.WEEKDAYS).isdisjoint(lower):
        return None
    if " ".join(lower) in lexicon.PLACES:
        return "place"
    if len(parts) > 1 and not lexicon.ORGANISATION_WORDS.isdisjoint(lower):
        return "organisation"
    if len(parts) < len(name.words) or lower[0] in lexicon.FIRST_NAMES:
        return "person"
    if capitalises_nouns or (len(parts) == 1 and (name.begins_sentence or len(parts[0]) < 2)):
        return None
    return "place" if name.before in lexicon.PLACE_PREPOSITIONS else "other"


def _capitalised_runs(text: str) -> Iterator[_Name]:
    run = _Name([], "", begins_sentence=True)
    particles: list[re.Match[str]] = []
    before, end = "", 0
    for match in _NAME_WORD.finditer(text):
        word, gap = match.group(), text[end : match.start()]
        after_title = gap == ". " and (before in lexicon.TITLES or len(before) == 1)
        connects = bool(run.words) and (gap == " " or after_title)
        is_name = word[0].isupper() and (connects or word.lower() not in ALL_STOP_WORDS)
        if connects and is_name:
            run.words.extend([*particles, match])
            particles = []
        elif connects and word in lexicon.NAME_PARTICLES and len(particles) < 2:
            particles.append(match)
        else:
            if run.words:
                yield run
            begins = end == 0 or not _SENTENCE_MARKS.isdisjoint(gap)
            run = _Name([match] if is_name else [], "" if begins else before, begins)
            particles = []
        before, end = word.lower(), match.end()
    if run.words:
        yield run


_SENTENCE_MARKS = frozenset(".!?\n:")


def sentiment(text: str) -> Sentiment:
    """Judge English, German, French and Spanish by a small lexicon with negation.

    score: -1 to 1; 0 where no word tells.
    """
    total = size = 0.0
    for clause in _CLAUSE_END.split(text):
        found = words(clause)
        for number, word in enumerate(found):
            weight = _feelings().get(word.removeprefix("n'").removeprefix("j'"), 0.0)
            if not weight:
                continue
            near = found[max(0, number - NEGATION_REACH_WORDS) : number]
            after = found[number + 1 : number + 1 + NEGATION_REACH_WORDS]
            if near and near[-1] in lexicon.INTENSIFIERS:
                weight *= 1.5
            if not (lexicon.NEGATIONS.isdisjoint(near) and lexicon.TRAILING_NEGATIONS.isdisjoint(after)):
                weight *= -0.75  # "not bad" is less than "good"
            total += weight
            size += abs(weight)
    score = round(total / (size + 1), 3)
    if abs(score) < NEUTRAL_BELOW:
        return {"label": "neutral", "score": score}
    return {"label": "positive" if score > 0 else "negative", "score": score}


@cache
def _feelings() -> dict[str, float]:
    return (
        dict.fromkeys(lexicon.POSITIVE, 1.0)
        | dict.fromkeys(lexicon.NEGATIVE, -1.0)
        | dict.fromkeys(lexicon.STRONGLY_POSITIVE, 2.0)
        | dict.fromkeys(lexicon.STRONGLY_NEGATIVE, -2.0)
    )


# Scripts that one language of this list writes. Japanese is asked before Chinese: it writes Chinese characters too.
_SCRIPTS = {
    "ja": re.compile("[぀-ヿ]"),
    "zh": re.compile("[㐀-䶿一-鿿]"),
    "ko": re.compile("[가-힣]"),
    "el": re.compile("[Ͱ-Ͽ]"),
    "he": re.compile("[א-ת]"),
    "ar": re.compile("[؀-ۿ]"),
    "hi": re.compile("[ऀ-ॿ]"),
    "th": re.compile("[ก-๛]"),
}
_SCRIPT_SHARE = 0.3
_JAPANESE_SHARE = 0.1  # of its own syllables, among Chinese characters
_TELLING_LETTERS = {
    "de": "ßäöü", "es": "ñ¿¡", "fr": "çœèê", "pl": "ąćęłśźż", "pt": "ãõç", "ru": "ыэъё", "sv": "åäö", "uk": "іїєґ",
}  # fmt: skip


def language(text: str) -> str:
    """Return the ISO 639-1 code of the text's language, or "und" where nothing tells. The beginning decides.

    Eight scripts tell their language (Arabic stands for all that use its script); Latin and Cyrillic texts are told
    apart by their commonest words and their own letters, among the languages of `STOP_WORDS`.
    """
    sample = text[:LANGUAGE_SAMPLE_CHARACTERS].lower()
    letters = sum(map(str.isalpha, sample))
    for code, script in _SCRIPTS.items():
        if len(script.findall(sample)) > letters * (_JAPANESE_SHARE if code == "ja" else _SCRIPT_SHARE):
            return code
    found = Counter(words(sample))
    scores: defaultdict[str, float] = defaultdict(float)
    for code, stop_words in STOP_WORDS.items():
        # A word that several languages share tells less. Telling letters help short texts.
        scores[code] = sum(times / _sharing()[word] for word, times in found.items() if word in stop_words)
        scores[code] += 0.3 * sum(map(sample.count, _TELLING_LETTERS.get(code, "")))
    (second, _), (best, code) = sorted((score, code) for code, score in scores.items())[-2:]
    is_told = best >= max(0.5, 0.03 * found.total()) and best > second * 1.15
    return code if is_told else "und"


@cache
def _sharing() -> Counter[str]:
    """In how many languages each stop word occurs."""
    return Counter(word for stop_words in STOP_WORDS.values() for word in stop_words)
