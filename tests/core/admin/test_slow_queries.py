"""The list of slow queries, the plan of each, and what runs too long."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from core.admin import slow_queries
from core.models import AuditEntry, SlowQuery
from core.ops import query_plans, running_queries
from core.ops.running_queries import Running, Statistic
from tests.factories import make_slow_query, make_staff

PAGE = "admin:core_slowquery_changelist"
SINCE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    """A statement that runs too long, as PostgreSQL would tell."""
    found = Running(4711, "backup", "pg_dump", False, "Lock", SINCE, 'COPY "agents_agenttask" TO stdout')
    monkeypatch.setattr(running_queries, "running_too_long", lambda: [found])
    return found


def test_it_shows_what_is_slow_for_whom_and_since_when(console: Client) -> None:
    make_slow_query(
        'SELECT "a" FROM "b" WHERE "c" = %s', work="task-list", count=4, total_seconds=2.0, worst_seconds=1.5
    )

    page = console.get(reverse(PAGE)).text

    for text in ("&quot;c&quot; = %s", "task-list", "500 ms", "1.5 s"):
        assert text in page
    assert "Running too long" not in page
    assert "have its plan shown" in page


def test_what_costs_most_in_all_comes_first_and_columns_sort(console: Client) -> None:
    make_slow_query("SELECT often", count=100, total_seconds=20.0, worst_seconds=0.3)
    make_slow_query("SELECT seldom", count=2, total_seconds=6.0, worst_seconds=3.1)

    def order(query: str = "") -> bool:
        page = console.get(reverse(PAGE) + query).text
        return page.index("SELECT often") < page.index("SELECT seldom")

    assert order()
    assert not order("?o=-4")  # by the mean


def test_where_nothing_is_slow_it_says_so(console: Client, settings) -> None:
    assert "have its plan shown" not in console.get(reverse(PAGE)).text
    assert "No statement took 100 ms so far" in console.get(reverse(PAGE)).text
    settings.SLOW_QUERY_SECONDS = 0.0
    assert "SUTAZAI_SLOW_QUERY_MS is 0" in console.get(reverse(PAGE)).text


def test_the_list_costs_the_same_for_many(console: Client, django_assert_max_num_queries) -> None:
    for number in range(20):
        make_slow_query(f"SELECT column_{number}", work=f"work {number}")

    with django_assert_max_num_queries(10):
        console.get(reverse(PAGE))


def test_a_plan_is_shown_on_demand(console: Client) -> None:
    query = make_slow_query('SELECT "core_user"."id" FROM "core_user" WHERE "core_user"."first_name" = %s')
    address = reverse("admin:core_slowquery_change", args=[query.pk])

    assert "core_user" not in console.get(address).text.split("How the database runs it")[1].split("</section>")[0]
    page = console.get(f"{address}?plan").text
    assert "SCAN core_user" in page or "Seq Scan" in page


def test_where_there_is_no_plan_the_page_says_why(console: Client) -> None:
    query = make_slow_query("BEGIN IMMEDIATE")

    page = console.get(reverse("admin:core_slowquery_change", args=[query.pk]) + "?plan").text

    assert "There is no plan to show. Only statements that read or change rows have a plan." in page


def test_an_index_is_suggested(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_plans, "WORTH_AN_INDEX_ROWS", -1)
    query = make_slow_query('SELECT "core_user"."id" FROM "core_user" WHERE "core_user"."first_name" = %s')

    page = console.get(reverse("admin:core_slowquery_change", args=[query.pk]) + "?plan").text

    assert "An index may help" in page
    assert "CREATE INDEX" in page


def test_statements_are_forgotten_by_those_who_may(console: Client) -> None:
    query = make_slow_query()
    action = {"action": "forget", "_selected_action": [str(query.pk)]}
    viewer = Client()
    viewer.force_login(make_staff("view_slowquery"))

    viewer.post(reverse(PAGE), action)
    assert SlowQuery.objects.exists()
    assert "Forgot 1 statement." in console.post(reverse(PAGE), action, follow=True).text
    assert not SlowQuery.objects.exists()


def test_nobody_writes_them_by_hand(console: Client) -> None:
    query = make_slow_query()

    assert console.get(reverse("admin:core_slowquery_add")).status_code == 403
    assert console.get(reverse("admin:core_slowquery_delete", args=[query.pk])).status_code == 403
    address = reverse("admin:core_slowquery_change", args=[query.pk])
    assert console.post(address, {"text": "SELECT 1"}).status_code == 403


def test_markup_in_a_statement_is_text(console: Client) -> None:
    make_slow_query('SELECT "<img src=x onerror=alert(1)>"')

    assert "<img src=x" not in console.get(reverse(PAGE)).text


def test_what_runs_too_long_is_shown_and_told_on_the_dashboard(console: Client, running: Running) -> None:
    page = console.get(reverse(PAGE)).text
    assert "pg_dump" in page
    assert "Waits for a lock" in page
    (problem,) = slow_queries.problems().problems
    assert problem.since == SINCE
    assert problem.url == reverse(PAGE)


def test_postgresqls_statistics_are_shown_where_there_are_any(console: Client, monkeypatch) -> None:
    monkeypatch.setattr(
        running_queries, "statistics", lambda: [Statistic("SELECT pg_sleep(%s)", 1234, 0.5, 2.0, 617.0)]
    )

    page = console.get(reverse(PAGE)).text

    assert "pg_stat_statements" in page
    assert "1,234" in page


def test_the_statement_that_was_shown_is_ended_and_the_audit_log_told(console: Client, running, monkeypatch) -> None:
    stopped = []
    monkeypatch.setattr(running_queries, "stop", lambda pid, since: not stopped.append((pid, since)))

    page = console.get(reverse(PAGE)).text
    assert f'value="{SINCE.isoformat()}"' in page
    answer = console.post(reverse("admin:core_slowquery_stop"), {"pid": 4711, "since": SINCE.isoformat()}, follow=True)

    assert stopped == [(4711, SINCE)]
    assert "Ended what process 4711" in answer.text
    assert AuditEntry.objects.filter(action="database-session.stopped").count() == 1


@pytest.mark.parametrize("body", [{}, {"pid": "x", "since": "y"}, {"pid": -1, "since": SINCE.isoformat()}])
def test_bad_requests_end_nothing(console: Client, monkeypatch, body) -> None:
    monkeypatch.setattr(running_queries, "stop", lambda *_: pytest.fail("it was ended"))

    answer = console.post(reverse("admin:core_slowquery_stop"), body, follow=True)

    assert "Nothing was ended" in answer.text
    assert not AuditEntry.objects.filter(action="database-session.stopped").exists()


def test_what_ended_by_itself_is_told(console: Client) -> None:
    answer = console.post(reverse("admin:core_slowquery_stop"), {"pid": 1, "since": SINCE.isoformat()}, follow=True)

    assert "it had ended by itself" in answer.text
