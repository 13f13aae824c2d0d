"""Agents and their versions."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agents.admin.agents import differences
from agents.models import Agent, AgentVersion
from core.models import User
from tests.factories import make_agent, make_user


def content(**fields: Any) -> dict[str, Any]:
    return {
        "model": "tinyllama",
        "system_prompt": "Be brief.",
        "options": '{"temperature": 0.5}',
        "max_message_characters": 1000,
        "deadline_seconds": 60,
        "truncation": "flag",
        **fields,
    }


def new_version(client: Client, agent: Agent, **fields: Any) -> Any:
    return client.post(reverse("admin:agents_agent_new_version", args=[agent.pk]), content(**fields))


def test_a_new_agent_has_a_live_first_version(console: Client, operator: User) -> None:
    console.post(reverse("admin:agents_agent_add"), content(name="writer", kind="chat", description="Writes."))

    agent = Agent.objects.get(name="writer")
    assert (agent.owner, agent.team_id, agent.live_version.number) == (operator, operator.team_id, 1)
    assert agent.live_version.model == "tinyllama:latest"


@pytest.mark.parametrize(
    "wrong", [{"name": "two words"}, {"kind": "none"}, {"options": "[1]"}, {"options": "{"}, {"deadline_seconds": 0}]
)
def test_a_bad_agent_leaves_nothing_behind(console: Client, wrong: dict[str, Any]) -> None:
    response = console.post(reverse("admin:agents_agent_add"), content(**{"name": "writer", "kind": "chat", **wrong}))

    assert response.status_code == 200
    assert "Not saved." in response.text
    assert not Agent.objects.exists()
    assert not AgentVersion.objects.exists()


def test_a_name_is_taken_once_per_team(console: Client, operator: User) -> None:
    make_agent(operator, name="writer")

    response = console.post(reverse("admin:agents_agent_add"), content(name="writer", kind="chat"))

    assert "has an agent of this name already" in response.text


def test_a_new_version_begins_from_the_live_one(console: Client) -> None:
    agent = make_agent(content={"system_prompt": "Speak like a pirate.", "note": "First."})

    form = console.get(reverse("admin:agents_agent_new_version", args=[agent.pk])).context["forms"][0][1]

    assert form.initial["system_prompt"] == "Speak like a pirate."
    assert "note" not in form.initial


def test_a_new_version_is_live_only_when_asked(console: Client) -> None:
    agent = make_agent()

    new_version(console, agent)
    agent.refresh_from_db()
    assert agent.live_version.number == 1
    new_version(console, agent, make_live="1")
    agent.refresh_from_db()

    assert agent.live_version.number == 3


def test_a_bad_version_is_not_written(console: Client) -> None:
    agent = make_agent()

    response = new_version(console, agent, options='{"num_ctx": -1}')

    assert "num_ctx" in response.text
    assert agent.versions.count() == 1


def test_make_live_goes_back_and_says_when_nothing_changed(console: Client) -> None:
    agent = make_agent()
    new_version(console, agent, make_live="1")
    url = reverse("admin:agents_agent_make_live", args=[agent.pk, 1])

    assert "v1 is live: new tasks use it" in console.post(url, follow=True).text
    assert "nothing changed" in console.post(url, follow=True).text
    agent.refresh_from_db()
    assert agent.live_version.number == 1


def test_a_version_that_is_not_there_is_not_found(console: Client) -> None:
    agent = make_agent()

    assert console.get(reverse("admin:agents_agent_version", args=[agent.pk, 9])).status_code == 404
    assert console.post(reverse("admin:agents_agent_make_live", args=[agent.pk, 9])).status_code == 404


def test_differences_are_told_line_by_line() -> None:
    old = AgentVersion(system_prompt="One.\nTwo.\nThree.", options={"a": 1}, model="x:latest")
    new = AgentVersion(
        system_prompt="One.\n2.\nThree.", options={"a": 1}, model="x:latest", allows_builtin_fallback=True
    )

    found = {change.label: change.lines for change in differences(old, new)}

    assert found == {
        "System prompt": [("same", "One."), ("removed", "Two."), ("added", "2."), ("same", "Three.")],
        "The built-in model may stand in": [("removed", "no"), ("added", "yes")],
    }


def test_the_version_page_compares_with_the_live_one_or_the_one_asked_for(console: Client) -> None:
    agent = make_agent(content={"system_prompt": "First."})
    agent.add_version(created_by=make_user(), system_prompt="Second.")
    agent.add_version(created_by=make_user(), system_prompt="<b>Third.</b>")
    url = reverse("admin:agents_agent_version", args=[agent.pk, 3])

    assert console.get(url).context["other"].number == 1
    page = console.get(url, {"against": "2"})

    assert page.context["other"].number == 2
    assert "&lt;b&gt;Third.&lt;/b&gt;" in page.text
    assert console.get(url, {"against": "nonsense"}).status_code == 200


def test_disabling_agents_reports_what_was_skipped(console: Client) -> None:
    agents = [make_agent(), make_agent(is_enabled=False)]
    data = {"action": "disable_selected", "_selected_action": [str(agent.pk) for agent in agents]}

    text = console.post(reverse("admin:agents_agent_changelist"), data, follow=True).text

    assert "Disabled 1 agent." in text
    assert "Skipped 1 agent: disabled already." in text
    assert not Agent.objects.filter(is_enabled=True).exists()


def test_agents_are_not_deleted(console: Client) -> None:
    agent = make_agent()

    assert console.post(reverse("admin:agents_agent_delete", args=[agent.pk]), {"post": "yes"}).status_code == 403


def test_the_list_costs_the_same_for_many_agents(console: Client, django_assert_max_num_queries) -> None:
    for _ in range(20):
        make_agent()

    with django_assert_max_num_queries(8):
        console.get(reverse("admin:agents_agent_changelist"))
