import json

import pytest
from jsonschema import Draft202012Validator

from agents.builtin.analysis import analyse
from agents.engine import execution, operations
from agents.engine.process import writer
from agents.kinds.base import CannotAnswer, estimate_tokens
from agents.kinds.text_analysis import SCHEMA, TextAnalysis, fit_text, parse
from agents.models import AgentVersion
from agents.ollama.errors import ConnectFailed, OllamaRejected
from core.models import CircuitBreaker
from tests.agents.kinds.conftest import ScriptedModel
from tests.factories import make_agent, make_builtin_node, make_node, make_task, make_user
from tests.ollama_server import OllamaTestServer

Truncation = AgentVersion.Truncation

GOOD = {
    "summary": "Ada wrote the first program.",
    "keywords": ["program"],
    "entities": [{"text": "Ada", "type": "person"}],
    "sentiment": {"label": "positive", "score": 0.5},
    "language": "en",
}
TEXT = "Ada Lovelace wrote the first program in London. It was wonderful."


def outcome_of(work):
    """The text that a run yields, and what it returns."""
    run, text = TextAnalysis().run(work), ""
    while True:
        try:
            text += next(run).text
        except StopIteration as stop:
            return text, stop.value


def changed(**fields):
    return json.dumps({**GOOD, **fields})


def test_an_answer_that_keeps_to_the_schema_is_taken(make_work):
    model = ScriptedModel(json.dumps(GOOD))
    text, outcome = outcome_of(make_work(model, {"text": TEXT}))
    assert json.loads(text) == outcome.output == GOOD
    assert not outcome.is_degraded
    assert outcome.notes["repairs"] == 0


def test_an_answer_that_breaks_the_schema_is_repaired_once(make_work):
    model = ScriptedModel(changed(language="English"), json.dumps(GOOD))
    _, outcome = outcome_of(make_work(model, {"text": TEXT}))
    assert outcome.output == GOOD
    assert outcome.notes["repairs"] == 1
    repair = model.prompts[1]
    assert [message.role for message in repair] == ["system", "user", "assistant", "user"]
    assert "English" in repair[-1].content


def test_it_gives_up_after_one_repair(make_work):
    model = ScriptedModel("no JSON", "nor this", json.dumps(GOOD))
    with pytest.raises(CannotAnswer) as refusal:
        outcome_of(make_work(model, {"text": TEXT}))
    assert refusal.value.code == "invalid-output"
    assert len(model.prompts) == 2


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "null",
        "{" * 100_000,
        "```json\n{}\n```",
        json.dumps({name: value for name, value in GOOD.items() if name != "summary"}),
        changed(more=1),
        changed(keywords="program"),
        changed(entities=[{"text": "Ada", "type": "poet"}]),
        changed(sentiment={"label": "positive", "score": 1.01}),
        changed(sentiment={"label": "positive", "score": float("nan")}),
        changed(sentiment={"label": "positive", "score": float("inf")}),
        changed(language="en\n"),
    ],
)
def test_what_breaks_the_schema_is_not_taken(answer):
    output, problem = parse(answer)
    assert output is None
    assert problem


def test_characters_that_no_database_holds_are_replaced():
    output, _ = parse(
        '{"summary": "a\\u0000b\\ud800c"' + json.dumps(GOOD)[len('{"summary": "Ada wrote the first program."') :]
    )
    assert output["summary"] == "a\ufffdb\ufffdc"


def test_classical_methods_keep_to_the_same_schema():
    for text in (TEXT, "", "語" * 50, "Der Vertrag vom 3. Mai 2021 gilt in Berlin. " * 30):
        assert not list(Draft202012Validator(SCHEMA).iter_errors(analyse(text)))


def test_a_model_that_breaks_the_schema_twice_is_replaced_by_classical_methods_where_allowed(make_work):
    work = make_work(ScriptedModel("no JSON", "nor this"), {"text": TEXT}, allows_builtin_fallback=True)
    text, outcome = outcome_of(work)
    assert outcome.is_degraded
    assert outcome.output == json.loads(text) == analyse(TEXT)
    assert "schema" in outcome.notes["degraded_because"]


def test_a_node_that_fails_is_tried_again_before_classical_methods(make_work):
    work = make_work(ScriptedModel(ConnectFailed("refused")), {"text": TEXT}, allows_builtin_fallback=True)
    with pytest.raises(ConnectFailed):
        outcome_of(work)
    model = ScriptedModel(ConnectFailed("refused"))
    _, outcome = outcome_of(make_work(model, {"text": TEXT}, attempts=1, allows_builtin_fallback=True))
    assert outcome.is_degraded
    assert outcome.notes["degraded_because"] == "refused"


def test_without_leave_to_fall_back_the_error_stays(make_work):
    with pytest.raises(ConnectFailed):
        outcome_of(make_work(ScriptedModel(ConnectFailed("refused")), {"text": TEXT}, attempts=3))


def test_a_request_that_was_refused_is_no_reason_to_fall_back(make_work):
    model = ScriptedModel(OllamaRejected("bad option"))
    with pytest.raises(OllamaRejected):
        outcome_of(make_work(model, {"text": TEXT}, attempts=1, allows_builtin_fallback=True))


def long_text(sentences=300):
    return " ".join(
        f"Shipment {number} of olives reached the harbour of Split in time." for number in range(sentences)
    )


def test_a_text_that_does_not_fit_is_refused_where_the_policy_says_so(make_work):
    work = make_work(ScriptedModel(context_tokens=1000), {}, truncation=Truncation.REJECT)
    with pytest.raises(CannotAnswer) as refusal:
        fit_text(work, long_text())
    assert refusal.value.code == "context-overflow"


@pytest.mark.parametrize("policy", [Truncation.FLAG, Truncation.COMPACT])
def test_a_text_that_does_not_fit_is_shortened_and_flagged(make_work, policy):
    model = ScriptedModel(json.dumps(GOOD), context_tokens=1000)
    _, outcome = outcome_of(make_work(model, {"text": long_text()}, truncation=policy))
    shown = model.prompts[0][-1].content
    assert outcome.is_truncated
    assert 200 < estimate_tokens(shown) < 750
    assert shown.endswith(".") or policy == Truncation.FLAG


def test_a_text_that_fits_is_shown_whole(make_work):
    model = ScriptedModel(json.dumps(GOOD))
    _, outcome = outcome_of(make_work(model, {"text": TEXT}))
    assert model.prompts[0][-1].content == TEXT
    assert not outcome.is_truncated


def run_task(owner, agent, text):
    task = make_task(owner, agent, message=text)
    execution.run(task.pk)
    task.refresh_from_db()
    return task


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_model_server_is_asked_with_the_schema():
    owner = make_user()
    with OllamaTestServer(models=["tiny"]) as server:
        make_node(url=server.url, models=("tiny:latest",))
        task = run_task(owner, make_agent(owner, kind="text_analysis", content={"model": "tiny"}), TEXT)
    assert task.status == "succeeded", task.error_detail
    assert not task.is_degraded
    assert task.output["summary"] == TEXT
    assert json.loads(task.result) == task.output
    assert task.receipt["model_calls"] == 1


@pytest.mark.django_db(transaction=True)
def test_without_a_model_server_the_answer_is_classical_and_degraded():
    make_builtin_node()
    owner = make_user()
    task = run_task(owner, make_agent(owner, kind="text_analysis"), TEXT)
    assert task.status == "succeeded", task.error_detail
    assert task.is_degraded
    assert task.output == analyse(TEXT)


@pytest.mark.django_db(transaction=True)
def test_falling_back_is_no_success_of_a_node_that_did_not_answer():
    owner = make_user()
    node = make_node(url="http://127.0.0.1:9", models=("tiny:latest",))
    content = {"model": "tiny", "allows_builtin_fallback": True}
    agent = make_agent(owner, kind="text_analysis", content=content)
    task = run_task(owner, agent, TEXT)
    assert (task.status, task.attempts) == ("queued", 1)
    task.run_after = None
    task.save(update_fields=["run_after"])
    writer.call(operations.grant_waiting, task.model)
    execution.run(task.pk)
    task.refresh_from_db()
    assert task.status == "succeeded", task.error_detail
    assert task.is_degraded
    assert CircuitBreaker.objects.get(node=node).failures == 1
