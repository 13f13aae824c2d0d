"""The transcript of a conversation."""

from django.test import Client
from django.urls import reverse

from agents.engine import execution
from agents.models import AgentTask
from core.models import User
from tests.factories import make_agent, make_session, make_task


def test_the_transcript_shows_both_sides_in_order_as_text(console: Client, operator: User) -> None:
    agent = make_agent(operator)
    session = make_session(operator, agent)
    task = make_task(operator, agent, message="<i>How do I add a node?</i>", session=session)
    execution.run(task.pk)

    page = console.get(reverse("admin:agents_chatsession_change", args=[session.pk]))

    assert [turn.role for turn in page.context["turns"]] == ["user", "assistant"]
    assert "&lt;i&gt;How do I add a node?&lt;/i&gt;" in page.text
    assert reverse("admin:agents_agenttask_change", args=[task.pk]) in page.text
    assert "Degraded" in page.text


def test_questions_without_an_answer_are_counted(console: Client, operator: User) -> None:
    agent = make_agent(operator)
    session = make_session(operator, agent)
    task = make_task(operator, agent, session=session)

    assert "1 without an answer" in console.get(reverse("admin:agents_chatsession_change", args=[session.pk])).text
    assert AgentTask.objects.get(pk=task.pk).status == "running"


def test_the_transcript_costs_the_same_for_many_turns(
    console: Client, operator: User, django_assert_max_num_queries
) -> None:
    agent = make_agent(operator)
    session = make_session(operator, agent)
    for _ in range(12):
        execution.run(make_task(operator, agent, session=session).pk)

    with django_assert_max_num_queries(9):
        page = console.get(reverse("admin:agents_chatsession_change", args=[session.pk]))

    assert len(page.context["turns"]) == 24


def test_an_empty_conversation_says_so(console: Client, operator: User) -> None:
    session = make_session(operator)

    assert "Nothing was said yet." in console.get(reverse("admin:agents_chatsession_change", args=[session.pk])).text
