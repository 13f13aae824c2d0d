import json
import time
from typing import Any, get_args

import pytest

from agents.builtin.analysis import EntityType, analyse, entities, keywords, language, sentiment, summarise

NEWS = (
    "The European Central Bank raised its key interest rate on 14 September 2023, to 4.5%. Christine Lagarde said in "
    "Frankfurt that inflation was still too high. The weather was fine. Economists at Deutsche Bank AG had expected "
    "that the interest rate would rise, because inflation in the euro area stays high. Critics in Italy warned that a "
    "higher interest rate could harm growth. Lunch was served. Write to press@ecb.europa.eu or see "
    "https://www.ecb.europa.eu/press. John F. Kennedy was not there."
)


def test_a_summary_keeps_the_telling_sentences_in_their_order() -> None:
    assert summarise(NEWS, sentences=2) == (
        "The European Central Bank raised its key interest rate on 14 September 2023, to 4.5%. Economists at Deutsche "
        "Bank AG had expected that the interest rate would rise, because inflation in the euro area stays high."
    )


def test_a_summary_of_a_short_text_is_the_text_with_each_sentence_once() -> None:
    assert summarise("One thing.\nOne thing.  Am 3. Mai kam\nDr. Müller.") == "One thing. Am 3. Mai kam Dr. Müller."
    assert summarise("") == ""


def test_an_overlong_sentence_is_cut_visibly() -> None:
    summary = summarise("word " * 1000)

    assert len(summary) <= 400
    assert summary.endswith("…")


def test_keywords_are_the_phrases_that_return() -> None:
    found = keywords(NEWS, limit=4)

    assert len(found) == 4
    assert {"interest rate", "inflation"} <= set(found)
    assert not any("europa" in keyword for keyword in found)  # part of an address
    assert keywords("the of and") == []


def test_keywords_of_chinese_are_pairs_of_characters() -> None:
    assert keywords("北京是首都。北京历史悠久。我爱北京。", limit=1) == ["北京"]


def test_it_finds_entities_and_their_types_in_order() -> None:
    assert [(entity["text"], entity["type"]) for entity in entities(NEWS)] == [
        ("European Central Bank", "organisation"),
        ("14 September 2023", "date"),
        ("4.5%", "number"),
        ("Christine Lagarde", "person"),
        ("Frankfurt", "place"),
        ("Deutsche Bank AG", "organisation"),
        ("Italy", "place"),
        ("press@ecb.europa.eu", "email"),
        ("https://www.ecb.europa.eu/press", "url"),
        ("John F. Kennedy", "person"),
    ]


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("Am 3. Mai 2024 war es kalt.", {"text": "3. Mai 2024", "type": "date"}),
        ("Fällig am 2026-11-21.", {"text": "2026-11-21", "type": "date"}),
        ("le 14 juillet 1789", {"text": "14 juillet 1789", "type": "date"}),
        ("el 2 de mayo de 1808", {"text": "2 de mayo de 1808", "type": "date"}),
        ("Gestern kam Frau Özdemir.", {"text": "Özdemir", "type": "person"}),
        ("He lives in New York now.", {"text": "New York", "type": "place"}),
        ("We sailed near Ushuaia.", {"text": "Ushuaia", "type": "place"}),
        ("The yacht Wanderlust sank.", {"text": "Wanderlust", "type": "other"}),
    ],
)
def test_it_finds_this_entity(text: str, entity: dict[str, str]) -> None:
    assert entities(text) == [entity]


def test_german_nouns_are_no_names() -> None:
    assert entities("Der Hund und die Katze sind nicht im Garten, sondern auf dem Dach.") == []


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("positive", "I love this product, it works great!"),
        ("negative", "This is not good at all."),
        ("positive", "Not bad."),
        ("neutral", "The train leaves at nine."),
        ("positive", "Das Essen war wirklich ausgezeichnet."),
        ("negative", "Das gefällt mir nicht."),
        ("negative", "Der Service war schlecht und der Kaffee kalt."),
        ("positive", "C'est un film magnifique."),
        ("negative", "Je n'aime pas ce restaurant, le service est très lent."),
        ("positive", "La comida es excelente y el servicio muy bueno."),
        ("negative", "El hotel no es bueno, la habitación es horrible."),
        ("neutral", ""),
    ],
)
def test_it_hears_the_sentiment(label: str, text: str) -> None:
    found = sentiment(text)

    assert found["label"] == label
    assert {"positive": 1, "neutral": 0, "negative": -1}[label] == (found["score"] > 0.1) - (found["score"] < -0.1)


def test_more_feeling_gives_a_stronger_score_within_bounds() -> None:
    good, better, most = (sentiment(text)["score"] for text in ("good", "very good", "great, perfect " * 1000))

    assert 0 < good < better < most <= 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "What is the reason for this, and who will pay for it?"),
        ("de", "Der schnelle braune Fuchs springt über den faulen Hund."),
        ("fr", "Le chat est dans la maison et il ne veut pas sortir."),
        ("es", "El zorro marrón salta sobre el perro perezoso y se va."),
        ("it", "La volpe marrone salta sopra il cane pigro e poi se ne va."),
        ("pt", "A raposa marrom salta sobre o cão preguiçoso e não volta."),
        ("nl", "De snelle bruine vos springt over de luie hond heen."),
        ("pl", "Szybki brązowy lis przeskakuje nad leniwym psem."),
        ("sv", "Den snabba bruna räven hoppar över den lata hunden."),
        ("ru", "Быстрая лиса прыгает через ленивую собаку, и она не знает, что делать."),
        ("uk", "Швидка лисиця стрибає через ледачого собаку, і він не знає, що робити."),
        ("ja", "素早い茶色の狐がのろまな犬を飛び越える。"),
        ("zh", "敏捷的棕色狐狸跳过了懒狗。"),
        ("ko", "빠른 갈색 여우가 게으른 개를 뛰어넘는다."),
        ("ar", "الثعلب البني السريع يقفز فوق الكلب"),
        ("el", "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί"),
        ("und", "12345 !?"),
        ("und", "asdf qwer zxcv"),
        ("und", ""),
    ],
)
def test_it_recognises_the_language(code: str, text: str) -> None:
    assert language(text) == code


def test_a_megabyte_of_prose_is_analysed() -> None:
    assert analyse(NEWS * (1_000_000 // len(NEWS)))["language"] == "en"


def timed_analysis(text: str) -> tuple[dict[str, Any], float]:
    """Return what was found, and the seconds of CPU that it took."""
    started = time.process_time()
    found = analyse(text)
    return found, time.process_time() - started


@pytest.mark.parametrize(
    "unit",
    ["a", " ", ".", "a. ", "\n", "\n x", "a@", "a@b.", "1", "1,", "http://", "www.", "Ab ", "Ab of ", "a-", '."', "中",
     "İ", "e\u0301", "\ud800", "\x00", "1 de ", "Dr. ", "not good "],
)  # fmt: skip
def test_time_grows_as_the_text_does_and_what_is_found_can_be_stored(unit: str) -> None:
    _, short = timed_analysis(unit * (10_000 // len(unit)))
    found, long = timed_analysis(unit * (80_000 // len(unit)))

    assert long < 30 * max(short, 0.005)  # eight times the text; 64 times the work would be quadratic
    json.dumps(found, ensure_ascii=False).encode()
    assert set(found) == {"summary", "keywords", "entities", "sentiment", "language"}
    assert len(json.dumps(found)) < 100_000
    assert {entity["type"] for entity in found["entities"]} <= set(get_args(EntityType))
