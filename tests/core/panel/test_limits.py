"""Limits as people see them on their own pages."""

import html
import re
from dataclasses import dataclass

import pytest
from django.test import Client

from core.access import api_keys
from core.access.limits import windows
from core.access.limits.budgets import Settlement, settle
from core.access.limits.subjects import Subject
from core.access.limits.usage import Gauge, Usage
from core.models import Allowance, User
from core.panel.limits import Limit
from tests.api import ApiClient
from tests.core.access.limits.conftest import HandClock
from tests.core.access.limits.conftest import hand_clock as hand_clock  # noqa: PLC0414 - a fixture of its neighbours
from tests.factories import make_builtin_node, make_task, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOBODY = Subject("user", User().pk)


@pytest.fixture
def person() -> User:
    make_builtin_node()
    return make_user(username="ada")


@pytest.fixture
def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def texts(page: str) -> dict[str, list[str]]:
    """What a page says of each limit: label -> whose, amount, outlook, as far as there are such."""
    found = {}
    for item in re.findall(r"<span class=\"c-label\">.*?</li>", page, re.DOTALL):
        plain = html.unescape(re.sub(r"<[^>]*>", "\n", item)).replace("\N{NO-BREAK SPACE}", " ")
        label, *rest = [line.strip() for line in plain.split("\n") if line.strip()]
        found[label] = rest
    return found


def use(subject: Subject, tokens: int, clock: HandClock) -> None:
    settle([Settlement((subject,), clock.now().date(), reserved=0, used=tokens)])


def test_the_dashboard_tells_the_numbers_of_the_api(browser, person, hand_clock):
    Allowance.objects.create(user=person, tokens_per_day=100_000, concurrent_tasks=5, requests_per_minute=10)
    make_task(person)
    client = ApiClient(person)
    for _ in range(3):
        answer = client.get("/api/v1/limits").json()["limits"][1]

    page = texts(browser.get("/dashboard").text)

    for kind, amount in (
        ("Requests per minute", "3 of 10"),
        ("Concurrent tasks", "1 of 5"),
        ("Tokens per day", f"{answer['tokens_per_day']['used']:,} of 100,000"),
    ):
        assert page[kind][:2] == ["yours", amount]
    assert page["Requests per minute"][2] == "Starts anew in 1 min."
    assert page["Tokens per day"][2].startswith("Starts anew in ")
    assert page["Concurrent tasks"][2] == "Each that ends makes room."


def test_the_tighter_of_the_persons_and_the_teams_limit_is_told(browser, person, hand_clock):
    Allowance.objects.create(user=person, tokens_per_day=100, concurrent_tasks=3)
    Allowance.objects.create(team=person.team, tokens_per_day=1_000, concurrent_tasks=2)
    team = Subject("team", person.team_id)
    use(team, 850, hand_clock)
    assert texts(browser.get("/dashboard").text)["Tokens per day"][:2] == ["yours", "0 of 100"]

    use(team, 100, hand_clock)

    page = texts(browser.get("/dashboard").text)
    assert page["Tokens per day"][:2] == ["your team's", "950 of 1,000"]
    assert page["Concurrent tasks"][:2] == ["your team's", "0 of 2"]


def test_where_there_is_no_limit_the_page_says_so(browser, person):
    page = texts(browser.get("/dashboard").text)
    assert page["Tokens per day"] == ["No limit"]
    assert page["Concurrent tasks"] == ["No limit", "Used: 0."]
    assert page["Requests per minute"] == ["yours", "0 of 6,000", "Nothing used."]


def test_what_is_nearly_and_wholly_used_up_looks_different_and_says_what_happens(browser, person, hand_clock):
    row = Allowance.objects.create(user=person, tokens_per_day=1_000, requests_per_minute=4)
    me = Subject("user", person.pk)
    for used, tone, outlook in (
        (800, "", r"Starts anew in \d.*"),
        (1, "warning", r"199 left\. More than that is refused until it starts anew in \d.*"),
        (299, "bad", r"Used up\. More is refused until it starts anew in \d.*"),
    ):
        use(me, used, hand_clock)
        text = browser.get("/dashboard").text
        assert re.fullmatch(outlook, texts(text)["Tokens per day"][2])
        assert (f"p-amount c-{tone}" in text) == bool(tone)
    windows.hit([str(me)], 60, 4)
    hand_clock.advance(21)
    page = texts(browser.get("/dashboard").text)
    assert page["Requests per minute"][2] == "Used up. More is refused until it starts anew in 39 s."

    row.concurrent_tasks = 1
    row.tokens_per_day = None
    row.save()
    make_task(person)
    page = texts(browser.get("/dashboard").text)
    assert page["Concurrent tasks"][1:] == ["1 of 1", "Used up. More is refused until one ends."]


def test_a_limit_that_nobody_counts_at_the_moment_is_told():
    limit = Limit("requests_per_minute", NOBODY, Gauge(600, None))
    assert (limit.amount, limit.bar, limit.tone) == ("Limit 600", None, "")
    assert limit.outlook == "Not counted at the moment, so nothing is refused."


def test_a_further_kind_of_limit_is_told_without_further_ado():
    @dataclass(frozen=True)
    class Wider(Usage):
        tokens_per_year: Gauge

    rest = {name: Gauge(None, None) for name in Usage.__dataclass_fields__ if name != "subject"}
    wider = Wider(subject=NOBODY, **rest, tokens_per_year=Gauge(5, 1))
    assert list(wider.gauges) == [*rest, "tokens_per_year"]
    assert Limit("tokens_per_year", NOBODY, wider.gauges["tokens_per_year"]).label == "Tokens per year"


def test_each_key_that_works_tells_its_own_limits(browser, person, hand_clock):
    key, _ = api_keys.issue(person, "reports")
    Allowance.objects.create(key=key, tokens_per_day=500)
    Allowance.objects.create(user=person, concurrent_tasks=7)
    use(Subject("key", key.pk), 500, hand_clock)

    page = browser.get("/settings").text
    assert texts(page)["Tokens per day"][0] == "500 of 500"
    assert texts(page)["Tokens per day"][1].startswith("Used up. More is refused")
    assert texts(page)["Requests per minute"] == ["0 of 6,000", "Nothing used."]
    assert "Concurrent tasks" not in texts(page)

    browser.post(f"/settings/keys/{key.pk}/revoke/")
    assert texts(browser.get("/settings").text) == {}


def test_the_number_of_queries_does_not_grow_with_limits(browser, person, django_assert_max_num_queries):
    for _ in range(20):
        Allowance.objects.create(key=api_keys.issue(person)[0], tokens_per_day=5, concurrent_tasks=5)
    Allowance.objects.create(user=person, tokens_per_day=5, concurrent_tasks=5)
    Allowance.objects.create(team=person.team, tokens_per_day=5, concurrent_tasks=5, requests_per_minute=5)
    with django_assert_max_num_queries(12):
        assert browser.get("/settings").text.count("<meter") == 60
    with django_assert_max_num_queries(12):
        assert browser.get("/dashboard").text.count("<meter") == 3
