"""The playground's page; what its script does is tested in a browser."""

from django.test import Client
from django.urls import reverse

from tests.factories import make_agent, make_user


def test_it_offers_agents_that_take_tasks_with_their_versions(console: Client) -> None:
    ready = make_agent(name="ready")
    ready.add_version(created_by=make_user(), note="Second")
    make_agent(name="off", is_enabled=False)
    make_agent(name="analyst", kind="text_analysis")

    offered = console.get(reverse("console-playground")).context["agents"]

    assert [(agent["name"], agent["chats"]) for agent in offered] == [("ready", True), ("analyst", False)]
    assert [version["number"] for version in offered[0]["versions"]] == [2, 1]
    assert offered[0]["live"] == 1


def test_without_agents_it_says_what_to_do(console: Client) -> None:
    page = console.get(reverse("console-playground"))

    assert "No agent is ready" in page.text
    assert reverse("admin:agents_agent_add") in page.text


def test_what_agents_are_called_cannot_break_out_of_the_page(console: Client) -> None:
    make_agent(name="ready", description="</script><script>alert(1)</script>")

    assert "<script>alert(1)" not in console.get(reverse("console-playground"), {"agent": "</script>"}).text
