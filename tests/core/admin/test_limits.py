"""Limits in the console, and the limit of tries at its door."""

import pytest
from django.test import Client
from django.urls import reverse

from core.access import api_keys
from core.models import Allowance, User
from tests.factories import make_task, make_team, make_user

pytestmark = pytest.mark.django_db

LIST = reverse("admin:core_allowance_changelist")
SIGN_IN = reverse("admin:login")


def test_an_operator_sets_a_limit_and_sees_how_far_it_is_used(console: Client, operator: User) -> None:
    data = {
        "user": str(operator.pk),
        "tokens_per_day": "100000",
        "tokens_per_month": "3000000",
        "concurrent_tasks": "5",
    }
    assert console.post(reverse("admin:core_allowance_add"), data).status_code == 302
    row = Allowance.objects.get()
    make_task(operator)
    for page in (LIST, reverse("admin:core_allowance_change", args=[row.pk])):
        text = console.get(page).text
        assert "1 of 5" in text
        assert "of 100,000" in text
        assert "of 3,000,000" in text
        assert 'value="1"' in text


def test_a_limit_is_for_exactly_one(console: Client, operator: User) -> None:
    data = {"user": str(operator.pk), "team": str(operator.team_id), "requests_per_minute": "5"}
    response = console.post(reverse("admin:core_allowance_add"), data)
    assert "Choose exactly one" in response.text
    assert not Allowance.objects.exists()


def test_an_operator_gives_a_team_its_share_of_the_queues(console: Client, operator: User) -> None:
    data = {"team": str(operator.team_id), "queue_share": "2.5"}
    assert console.post(reverse("admin:core_allowance_add"), data).status_code == 302
    assert "2.5" in console.get(LIST).text
    for nonsense in ("0", "-1", "nan", "1e9"):
        change = reverse("admin:core_allowance_change", args=[Allowance.objects.get().pk])
        assert console.post(change, {**data, "queue_share": nonsense}).status_code == 200
    assert Allowance.objects.get().queue_share == 2.5


def test_a_key_has_no_share_of_its_own(console: Client, operator: User) -> None:
    key, _ = api_keys.issue(operator)
    response = console.post(reverse("admin:core_allowance_add"), {"key": str(key.pk), "queue_share": "2"})
    assert "A key waits with the share of its user" in response.text
    assert not Allowance.objects.exists()


def test_the_list_costs_the_same_for_many_rows(console: Client, django_assert_max_num_queries) -> None:
    for _ in range(5):
        user = make_user(team=make_team())
        for whose in ({"user": user}, {"team": user.team}, {"key": api_keys.issue(user)[0]}):
            Allowance.objects.create(**whose, requests_per_minute=5)
    with django_assert_max_num_queries(14):
        assert console.get(LIST).text.count("<meter") == 15


def test_pages_of_keys_people_and_teams_lead_to_their_limits(console: Client, operator: User) -> None:
    key, _ = api_keys.issue(operator)
    pages = {"apikey": ("key", key), "user": ("user", operator), "team": ("team", operator.team)}
    for model, (name, whose) in pages.items():
        page = reverse(f"admin:core_{model}_change", args=[whose.pk])
        assert f"{reverse('admin:core_allowance_add')}?{name}={whose.pk}" in console.get(page).text
        row = Allowance.objects.create(**{name: whose})
        assert reverse("admin:core_allowance_change", args=[row.pk]) in console.get(page).text
        assert console.get(reverse(f"admin:core_{model}_add")).status_code == 200


def test_limits_are_for_those_who_may_see_them(clerk: Client) -> None:
    assert clerk.get(LIST).status_code == 403
    assert Client().get(LIST).status_code == 302
