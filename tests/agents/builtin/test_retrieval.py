import pytest

from agents.builtin.retrieval import Passage, handbook, search, sections, stem

QUESTIONS = {
    "What is SutazAI?": "What SutazAI is",
    "How do I install it?": ("Install and start", "Install a model on a node"),
    "I lost my password": "Sign in the first time",
    "How do I add an Ollama node?": "Add an Ollama node",
    "the node is down": "A node is down or unreachable",
    "the model is missing": "A model is missing",
    "what is a circuit breaker": ("Status and circuit breaker of a node", "What opens a breaker"),
    "how do I hold a breaker open": "Reset, trip or hold a breaker",
    "how do i create an api key": "Create an API key",
    "curl example for the chat endpoint": "Chat by API with curl",
    "How do I stream the answer?": "Stream an answer",
    "how to resume a stream after the connection broke": "Resume a broken stream",
    "what task states are there": "Tasks and their states",
    "What is a receipt?": "Read a receipt",
    "What are idempotency keys?": "Idempotency keys",
    "what does degraded mean": "Degraded answers",
    "why was my answer truncated?": "Truncation: reject, compact or flag",
    "my answer was cut off in the middle": "An answer was cut off",
    "how do I go back to an older version of an agent": "Change an agent: versions, draft and live",
    "how to use postgres instead of sqlite": "Grow to PostgreSQL, Redis and RabbitMQ",
    "what jobs run periodically": "Housekeeping",
    "prometheus metrics": "Metrics for Prometheus",
    "Which queries of the database are slow?": "Find slow queries",
    "where is my data stored": "The data directory and backups",
    "how do I get alerts in Slack": "Connect Slack, Mattermost or Discord",
    "how do I check the signature of a webhook": "Check the signature of a webhook",
    "can I access it from another computer": "Access from other computers",
    "my task is stuck in the queue": "Tasks stay queued",
    "how many slots do I need": "Do my nodes suffice?",
    "capacity planning for more users": "Plan for more work, or for other machines",
    "what happens when the worker crashes": "What happens after a crash",
}


@pytest.mark.parametrize(("question", "heading"), QUESTIONS.items())
def test_it_finds_the_section_that_answers_a_natural_question(question: str, heading: str | tuple[str, ...]) -> None:
    assert search(question, limit=1)[0].heading in heading


def test_it_returns_the_best_first_and_no_more_than_asked() -> None:
    passages = search("node", limit=5)

    assert len(passages) == 5
    assert [p.score for p in passages] == sorted((p.score for p in passages), reverse=True)
    assert all(0 < p.score < 1 for p in passages)


@pytest.mark.parametrize("query", ["", "???", "the of and", "zyzzyva", "\ud800\x00"])
def test_it_returns_nothing_for_queries_without_a_known_word(query: str) -> None:
    assert search(query) == []


def test_unknown_words_lower_the_score() -> None:
    assert search("receipt zyzzyva quux")[0].score < search("receipt")[0].score / 2


def test_a_page_is_split_at_its_headings_but_not_at_comments_in_its_code() -> None:
    page = "# Page\n\nIntroduction.\n\n## First\n\nOne.\n\n    # a shell comment\n\n## Empty\n\n## Last\n\nTwo."

    assert list(sections(page)) == [
        Passage("Page", "Page", "Introduction."),
        Passage("Page", "First", "One.\n\n    # a shell comment"),
        Passage("Page", "Last", "Two."),
    ]


def test_every_section_of_the_handbook_is_short_enough_to_quote() -> None:
    lengths = {passage.heading: len(passage.text.split()) for passage in handbook().passages}

    assert len(lengths) == len(handbook().passages) > 40  # no two sections share a heading
    assert {heading: length for heading, length in lengths.items() if not 40 <= length <= 200} == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [("keys", "key"), ("queries", "query"), ("truncated", "truncation"), ("stopped", "stop"), ("caches", "cache")],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_words_that_only_look_alike_keep_their_own_stems() -> None:
    assert len({stem(word) for word in ("process", "status", "red", "ring", "bus", "über")}) == 6
