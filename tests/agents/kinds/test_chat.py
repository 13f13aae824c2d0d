from datetime import timedelta
from itertools import islice

import pytest
from django.utils import timezone

from agents.engine import execution
from agents.engine.chosen_model import ChosenModel
from agents.kinds.chat import Chat, exchange, history
from agents.models import AgentTask, AgentVersion, ChatMessage, Node, NodeModel
from core.models import uuid7
from core.net.interrupts import Interrupt
from tests.agents.kinds.conftest import ScriptedModel
from tests.factories import make_agent, make_builtin_node, make_node, make_session, make_task, make_user
from tests.ollama_server import OllamaTestServer


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
    assert list(history(now)) == [exchange("second?", "two"), exchange("first?", "one")]


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
        assert [earlier.messages[0].content for earlier in history(now)] == [
            f"{number}?" for number in range(44, -1, -1)
        ]


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
    content = {"truncation": AgentVersion.Truncation.REJECT, "options": {"num_ctx": 100}}
    task = make_task(owner, make_agent(owner, content=content), message="word " * 500)
    execution.run(task.pk)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "context-overflow")
