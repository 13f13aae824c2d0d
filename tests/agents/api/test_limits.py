"""Limits of work, as callers meet them."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import AgentTask, ChatSession
from core.models import Allowance, ApiKey
from tests.api import ApiClient, assert_problem, counting_queries

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

CHAT = "/api/v1/chat/"


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, {"message": "Hello"}), ("/api/v1/tasks/", {"agent": "helper", "input": {"message": "Hello"}})],
)
def test_a_task_is_the_keys_that_submitted_it(owner, helper, path, body):
    owner.post(path, body)
    task = AgentTask.objects.get()
    assert task.api_key == ApiKey.objects.get(user=owner.user)
    owner.post(f"/api/v1/tasks/{task.pk}/cancel/")
    again = ApiClient(owner.user)
    again.post(f"/api/v1/tasks/{task.pk}/retry/")
    assert AgentTask.objects.latest("pk").api_key == ApiKey.objects.filter(user=owner.user).latest("pk")


def test_a_task_from_a_persons_sign_in_is_no_keys(owner, helper, client):
    client.force_login(owner.user)
    assert client.post(CHAT, {"message": "Hello"}, content_type="application/json").status_code == 200
    assert AgentTask.objects.get().api_key is None


@pytest.mark.parametrize(("period", "days"), [("day", 1), ("month", 31)])
def test_an_exhausted_budget_says_when_there_is_another(owner, helper, period, days):
    Allowance.objects.create(user=owner.user, **{f"tokens_per_{period}": 100})
    response = owner.post(CHAT, {"message": "Hello"}, Idempotency_Key="k")
    problem = assert_problem(response, 429, "token-budget-exhausted")
    assert problem["detail"].startswith(f"Of the 100 tokens a {period} for this user, 100 are left; about ")
    assert 0 < int(response["Retry-After"]) <= days * 24 * 3600 + 1
    assert not AgentTask.objects.exists()
    assert not ChatSession.objects.exists()


def test_too_many_tasks_at_a_time_are_refused_until_one_ends(owner, helper):
    Allowance.objects.create(team=owner.user.team, concurrent_tasks=1)
    owner.post(CHAT, {"message": "Hello"})
    response = owner.post(CHAT, {"message": "Hello"})
    assert_problem(response, 429, "too-many-tasks")
    assert int(response["Retry-After"]) > 0
    assert owner.get("/api/v1/limits").json()["limits"][2]["concurrent_tasks"]["used"] == 1
    owner.post(f"/api/v1/tasks/{AgentTask.objects.get().pk}/cancel/")
    assert owner.post(CHAT, {"message": "Hello"}).status_code == 200


def test_a_budgets_use_is_told(owner, helper):
    Allowance.objects.create(user=owner.user, tokens_per_day=10_000)
    owner.post(CHAT, {"message": "Hello"})
    of_user = owner.get("/api/v1/limits").json()["limits"][1]
    used = AgentTask.objects.get().reserved_tokens
    assert (of_user["tokens_per_day"]["used"], of_user["tokens_per_day"]["remaining"]) == (used, 10_000 - used)
    assert (of_user["tokens_per_month"]["used"], of_user["tokens_per_month"]["limit"]) == (used, None)


def test_without_limits_of_anybody_no_table_of_limits_is_asked(owner, helper):
    """But for the count of requests, where PostgreSQL keeps it."""
    owner.post(CHAT, {"message": "Hello"})
    with CaptureQueriesContext(
        connection,
    ) as captured:
        owner.post(CHAT, {"message": "Hello"})
    asked = [query["sql"] for query in captured if "core_allowance" in query["sql"] or "core_tokenuse" in query["sql"]]
    counted = [query["sql"] for query in captured if "core_limitwindow" in query["sql"]]
    assert asked == []
    assert len(counted) == counting_queries()
