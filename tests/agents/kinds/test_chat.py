from datetime import timedelta
from itertools import islice

import pytest
from django.utils import timezone

from agents.engine import execution
from agents.engine.chosen_model import ChosenModel
from agents.kinds.base import CannotAnswer, estimate_tokens
from agents.kinds.chat import SUMMARY_HEADING, Chat, Exchange, fit_context, history
from agents.models import AgentTask, AgentVersion, ChatMessage, Node, NodeModel
from core.models import uuid7
from core.net.http import Interrupt
from tests.agents.kinds.conftest import ScriptedModel
from tests.factories import make_agent, make_builtin_node, make_node, make_session, make_task, make_user
from tests.ollama_server import OllamaTestServer

Truncation = AgentVersion.Truncation

ANSWER = "The harvest of olives begins in October. " * 5


def exchanges(count):
    """Newest first, as the history gives them."""
    return [Exchange(f"Question {number}?", f"In year {number} it is so. {ANSWER}") for number in range(count, 0, -1)]


def contents(context):
    return [message.content for message in context.messages]


def total_tokens(context):
    return sum(estimate_tokens(content) for content in contents(context))


def test_a_conversation_that_fits_is_sent_whole_and_in_order():
    version = AgentVersion(system_prompt="Be brief.")
    context = fit_context(version, exchanges(2), "And now?", budget_tokens=4000)
    assert [message.role for message in context.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert contents(context)[1:4:2] == ["Question 1?", "Question 2?"]
    assert contents(context)[-1] == "And now?"
    assert not context.is_truncated


def test_to_reject_is_to_refuse_what_does_not_fit():
    with pytest.raises(CannotAnswer) as refusal:
        fit_context(AgentVersion(truncation=Truncation.REJECT), exchanges(20), "And now?", budget_tokens=500)
    assert refusal.value.code == "context-overflow"


def test_to_reject_refuses_a_message_that_is_too_long_by_itself():
    with pytest.raises(CannotAnswer):
        fit_context(AgentVersion(truncation=Truncation.REJECT), [], "word " * 2000, budget_tokens=500)


def test_to_flag_is_to_keep_the_newest_whole_exchanges_and_say_so():
    version = AgentVersion(truncation=Truncation.FLAG, system_prompt="Be brief.")
    context = fit_context(version, exchanges(20), "And now?", budget_tokens=500)
    assert context.is_truncated
    assert context.messages[1].role == "user"
    assert contents(context)[-3:-1] == ["Question 20?", f"In year 20 it is so. {ANSWER}"]
    assert 300 < total_tokens(context) <= 500


def test_a_message_that_is_too_long_by_itself_is_sent_alone_and_flagged():
    context = fit_context(AgentVersion(truncation=Truncation.FLAG), exchanges(3), "word " * 2000, budget_tokens=500)
    assert contents(context) == ["word " * 2000]
    assert context.is_truncated


def test_to_compact_is_to_summarise_the_oldest_within_the_budget():
    version = AgentVersion(truncation=Truncation.COMPACT, system_prompt="Be brief.")
    answers = (
        f"Harvest {number} of olives from the hills above Split was late in October. " * 4 for number in range(40)
    )
    earlier = [Exchange(f"Question {40 - number}?", answer) for number, answer in enumerate(answers)]
    context = fit_context(version, earlier, "And now?", budget_tokens=800)
    instructions = contents(context)[0]
    assert instructions.startswith(f"Be brief.\n\n{SUMMARY_HEADING}")
    assert "olives" in instructions
    assert estimate_tokens(instructions) > 90  # exchanges were given up to make room for it
    assert contents(context)[-3] == "Question 40?"
    assert context.is_truncated
    assert total_tokens(context) <= 800


def test_to_compact_without_room_for_a_summary_sends_the_message_alone():
    version = AgentVersion(truncation=Truncation.COMPACT)
    context = fit_context(version, exchanges(3), "word " * 2000, budget_tokens=500)
    assert contents(context) == ["word " * 2000]
    assert context.is_truncated


def test_a_conversation_that_fits_is_not_summarised():
    context = fit_context(AgentVersion(truncation=Truncation.COMPACT), exchanges(3), "And now?", budget_tokens=4000)
    assert SUMMARY_HEADING not in contents(context)[0]
    assert not context.is_truncated


def test_an_answer_that_reached_its_limit_is_flagged(make_work):
    with OllamaTestServer(models=["tiny"]) as server:
        work = make_work(server_model(server), {"message": "one two three four"}, max_output_tokens=2)
        outcome = result_of(Chat().run(work))
    assert outcome.is_truncated


def server_model(server):
    """The model of a server, as the engine hands it to kinds."""
    place = NodeModel(node=Node(name="n", url=server.url), name="tiny:latest")
    return ChosenModel(place, {}, Interrupt(), float("inf"))


def result_of(run):
    while True:
        try:
            next(run)
        except StopIteration as stop:
            return stop.value


def test_pieces_arrive_one_by_one(make_work):
    work = make_work(ScriptedModel("Hello!"), {"message": "hi"})
    assert [chunk.text for chunk in Chat().run(work) if chunk.has_output] == ["Hello!"]


def answered(session, question, answer, **fields):
    return add_task(session, question, AgentTask.Status.SUCCEEDED, answer, **fields)


def add_task(session, question, status, answer=None):
    """An earlier task of a session, with its messages."""
    now = timezone.now()
    is_finished = status in AgentTask.FINISHED_STATUSES
    task = AgentTask.objects.create(
        agent=session.agent,
        version=session.agent.live_version,
        kind="chat",
        model="builtin",
        session=session,
        owner=session.owner,
        team=session.team,
        input={"message": question},
        deadline_at=now + timedelta(minutes=5),
        created_at=now,
        status=status,
        finished_at=now if is_finished else None,
        result=answer,
    )
    texts = {ChatMessage.Role.USER: question} | ({} if answer is None else {ChatMessage.Role.ASSISTANT: answer})
    for role, text in texts.items():
        ChatMessage.objects.create(id=uuid7(), session=session, task=task, role=role, content=text, created_at=now)
    return task


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_history_holds_answered_questions_of_this_session_only():
    session = make_session(make_user())
    answered(session, "first?", "one")
    add_task(session, "failed?", AgentTask.Status.FAILED)
    add_task(session, "cancelled?", AgentTask.Status.CANCELLED)
    add_task(session, "still waiting?", AgentTask.Status.QUEUED)
    answered(session, "second?", "two")
    answered(make_session(session.owner, session.agent), "elsewhere?", "three")
    now = add_task(session, "now?", AgentTask.Status.QUEUED)
    answered(session, "later?", "four")
    assert list(history(now)) == [Exchange("second?", "two"), Exchange("first?", "one")]


@pytest.mark.django_db
def test_a_task_without_a_session_has_no_history():
    assert list(history(AgentTask(session=None))) == []


@pytest.mark.django_db
@pytest.mark.both_databases
def test_a_long_history_is_read_a_page_at_a_time(django_assert_num_queries):
    session = make_session(make_user())
    for number in range(45):
        answered(session, f"{number}?", f"{number}!")
    now = add_task(session, "now?", AgentTask.Status.QUEUED)
    with django_assert_num_queries(1):
        assert len(list(islice(history(now), 20))) == 20
    with django_assert_num_queries(4):
        assert [exchange.question for exchange in history(now)] == [f"{number}?" for number in range(44, -1, -1)]


@pytest.mark.django_db(transaction=True)
def test_the_model_is_shown_what_was_said_before():
    owner = make_user()
    with OllamaTestServer(models=["tiny"]) as server:
        make_node(url=server.url, models=("tiny:latest",))
        agent = make_agent(owner, content={"model": "tiny", "system_prompt": "Be brief."})
        first = make_task(owner, agent, message="My name is Ada.", starts_session=True)
        execution.run(first.pk)
        second = make_task(owner, agent, message="Who am I?", session=first.session)
        execution.run(second.pk)
        second.refresh_from_db()
    assert second.status == "succeeded", second.error_detail
    assert second.result.startswith("You said: Who am I?")
    assert second.receipt["context_messages"] == 4
    assert not second.is_degraded
    assert not second.is_truncated


@pytest.mark.django_db(transaction=True)
def test_a_refused_conversation_fails_with_a_reason_to_act_on():
    make_builtin_node()
    owner = make_user()
    content = {"truncation": Truncation.REJECT, "options": {"num_ctx": 100}}
    task = make_task(owner, make_agent(owner, content=content), message="word " * 500)
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "context-overflow")
