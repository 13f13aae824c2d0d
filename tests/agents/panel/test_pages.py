import json
import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from agents.engine.submit import cancel
from agents.models import AgentTask, ChatMessage, ChatSession
from agents.panel.usage import usage_of
from core.models import Role, User, uuid7
from tests.factories import make_agent, make_builtin_node, make_operator, make_session, make_task, make_team, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def person() -> User:
    make_builtin_node()
    return make_user(username="ada")


def browser_of(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def browser(person: User) -> Client:
    return browser_of(person)


def settings_of(page) -> dict:
    return json.loads(page.text.split('id="chat-settings" type="application/json">')[1].split("</script>")[0])


def test_the_front_door_leads_to_the_dashboard(browser):
    assert browser.get("/")["Location"] == "/dashboard"


def test_an_empty_dashboard_says_how_to_begin(browser):
    page = browser.get("/dashboard").text
    assert "No conversations yet." in page
    assert "No tasks yet." in page


def test_the_dashboard_shows_ones_own_work_alone(browser, person):
    agent = make_agent(person, name="helper")
    make_session(person, agent, title="Mine")
    make_session(make_user(), agent, title="Another's")
    make_task(person, agent)
    make_task(make_operator(), agent)
    page = browser.get("/dashboard").text
    assert "Mine" in page
    assert "Another" not in page
    assert page.count('<td data-label="Task">') == 1


def test_usage_counts_a_day_of_ones_own_tasks(person):
    agent = make_agent(person)
    first, _, old = (make_task(person, agent) for _ in range(3))
    make_task(make_user(), agent)
    cancel(first.pk)
    long_ago = timezone.now() - timedelta(days=2)
    AgentTask.objects.filter(pk=old.pk).update(created_at=long_ago)
    AgentTask.objects.filter(pk=first.pk).update(prompt_tokens=7, output_tokens=5)
    usage = usage_of(person, timezone.now() + timedelta(seconds=1))
    assert (usage.tasks, usage.running, usage.failed, usage.prompt_tokens, usage.output_tokens) == (3, 2, 0, 7, 5)
    assert usage_of(person, timezone.now() + timedelta(days=2)).tasks == 0


def test_a_conversation_is_drawn_as_text_with_what_goes_on(browser, person):
    agent = make_agent(person, name="helper")
    session = make_session(person, agent, title="About <b>nodes</b>")
    task = make_task(person, agent, session=session, message="<script>alert(1)</script>")
    page = browser.get(f"/chat/{session.pk}/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>alert" not in page.text
    assert "About &lt;b&gt;nodes&lt;/b&gt;" in page.text
    assert settings_of(page) | {"chatPage": ""} == {
        "session": str(session.pk),
        "agent": "helper",
        "unfinished": str(task.pk),
        "chatPage": "",
    }
    cancel(task.pk)
    assert settings_of(browser.get(f"/chat/{session.pk}/"))["unfinished"] == ""


@pytest.mark.parametrize("who", ["colleague", "stranger", "operator"])
def test_anothers_conversation_is_not_there(person, who):
    session = make_session(person, make_agent(person))
    people = {
        "colleague": make_user,
        "stranger": lambda: make_user(team=make_team()),
        "operator": make_operator,
    }
    assert browser_of(people[who]()).get(f"/chat/{session.pk}/").status_code == 404
    assert browser_of(person).get(f"/chat/{uuid.uuid4()}/").status_code == 404


def test_a_new_chat_offers_the_teams_agents_the_helper_first(browser, person):
    for name in ("aaa", "helper"):
        make_agent(person, name=name)
    make_agent(make_user(team=make_team()), name="foreign")
    make_agent(person, name="analyst", kind="text_analysis")
    page = browser.get("/chat").text
    assert page.index('value="helper"') < page.index('value="aaa"')
    assert "foreign" not in page
    assert "analyst" not in page


def test_without_an_agent_the_page_says_whom_to_ask(browser):
    assert "Ask an operator to make one." in browser.get("/chat").text


def test_viewers_are_not_invited_to_chat(person):
    person.role = Role.VIEWER
    person.save()
    assert 'href="/chat"' not in browser_of(person).get("/dashboard").text


def test_pages_cost_the_same_however_much_there_is(browser, person, django_assert_max_num_queries):
    agent = make_agent(person, name="helper")
    session = make_session(person, agent)
    now = timezone.now()
    for _ in range(15):
        make_session(person, agent)
        task = make_task(person, agent, session=session)
        ChatMessage.objects.create(
            id=uuid7(), session=session, task=task, role="assistant", content="x", created_at=now
        )
    assert ChatSession.objects.count() == 16
    with django_assert_max_num_queries(10):  # one of them from time to time: what the database's clock says
        browser.get("/dashboard")
    with django_assert_max_num_queries(10):
        browser.get(f"/chat/{session.pk}/")
