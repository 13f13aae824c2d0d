import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import AgentTask, ChatMessage
from core.models import SlowQuery, User
from core.ops import query_plans
from core.ops.query_plans import NoPlan, plan
from core.ops.sql_text import CUT, normalised

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture
def large(monkeypatch):
    """Any table is large enough for an index."""
    monkeypatch.setattr(query_plans, "WORTH_AN_INDEX_ROWS", -1)  # PostgreSQL's number for tables never looked at


def asked(rows):
    """The normalised text of what a QuerySet asks."""
    with connection.cursor() as cursor:
        sql, _ = rows.query.sql_with_params()
    del cursor
    return normalised(sql)


@pytest.mark.parametrize(
    "rows",
    [
        AgentTask.objects.filter(status="queued", owner__username="a").select_related("agent").order_by("-pk")[:25],
        ChatMessage.objects.filter(session__pk__in=["0198c0de-0000-7000-8000-000000000000"] * 3),
        User.objects.filter(email__icontains="a").exclude(pk=3),
        AgentTask.objects.filter(pk__in=AgentTask.objects.filter(deadline_at__isnull=False)),
    ],
)
def test_what_the_program_asks_has_a_plan_without_its_values(rows):
    assert len(plan(asked(rows)).lines) >= 1


def test_statements_that_write_are_planned_and_not_run():
    SlowQuery.objects.all().delete()
    with CaptureQueriesContext(connection) as captured:
        User.objects.filter(username="nobody").update(first_name="x")
        User.objects.filter(username="nobody")._raw_delete("default")
    User.objects.create(username="somebody")
    for query in captured:
        text = normalised(query["sql"])
        assert plan(text).lines
    assert User.objects.filter(username="somebody").exists()


@pytest.mark.parametrize(
    "text", ["BEGIN IMMEDIATE", "VACUUM", "DROP TABLE core_user", f"SELECT a{CUT}", "SELECT nothing FROM nowhere", ""]
)
def test_where_there_is_no_plan_it_says_why(text):
    with pytest.raises(NoPlan) as caught:
        plan(text)
    assert str(caught.value)
    assert User.objects.count() == 0  # the connection still works


def test_a_plan_leaves_nothing_behind():
    for _ in range(2):  # a second one of the same name would fail
        plan(asked(User.objects.filter(first_name="x")))
    with pytest.raises(NoPlan):
        plan('SELECT %s FROM "core_user" WHERE nothing = %s')
    plan(asked(User.objects.filter(first_name="x")))


def test_an_index_is_suggested_for_what_reads_a_whole_table(large):
    User.objects.bulk_create(User(username=f"user{number}", email=f"{number}@test") for number in range(50))
    text = asked(User.objects.filter(first_name="a", last_name="b", date_joined__lt="2030-01-01T00:00Z"))
    (missing,) = plan(text).missing
    assert (missing.table, missing.columns) == ("core_user", ("first_name", "last_name", "date_joined"))
    with connection.cursor() as cursor:
        cursor.execute(missing.statement)
        try:
            assert plan(text).missing == []
        finally:
            cursor.execute('DROP INDEX "{}"'.format(missing.statement.split('"')[1]))


def test_none_is_suggested_where_one_serves_nor_for_small_tables(large, monkeypatch):
    assert plan(asked(User.objects.filter(username="a"))).missing == []
    assert plan(asked(User.objects.all())).missing == []
    monkeypatch.undo()
    assert plan(asked(User.objects.filter(first_name="a"))).missing == []
