from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from core import cursors
from core.cursors import Slow
from core.models import SlowQuery
from core.ops import slow_queries, traffic
from core.ops.slow_queries import Gatherer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def nothing_noted():
    cursors.slow.clear()
    yield
    cursors.slow.clear()


def note(sql="SELECT * FROM t WHERE a = %s", seconds=0.2, work="task-list"):
    cursors.slow.append(Slow(sql, seconds, work))


def gathered(gatherer=None):
    gatherer = gatherer or Gatherer()
    gatherer.gather()
    return gatherer.write()


def test_equal_statements_of_one_part_are_one_row():
    note(seconds=0.2)
    note("SELECT * FROM t WHERE a = 'hunter2'", seconds=0.6)
    note(work="thread engine-writer")
    assert gathered() == 2
    note(seconds=0.4)
    note(seconds=0.3)
    assert gathered() == 1
    row = SlowQuery.objects.get(work="task-list")
    assert (row.text, row.count, row.worst_seconds) == ("SELECT * FROM t WHERE a = %s", 4, 0.6)
    assert row.mean_seconds == pytest.approx(1.5 / 4)
    assert row.first_seen_at < row.last_seen_at
    assert SlowQuery.objects.get(work="thread engine-writer").count == 1


def test_no_value_is_stored():
    note("ALTER ROLE me PASSWORD 'hunter2'")
    note("INSERT INTO t VALUES (%s, 'hunter2'), (%s, 'x')")
    gathered()
    assert not [row for row in SlowQuery.objects.all() if "hunter2" in row.text]


def test_two_processes_add_up():
    for gatherer in (Gatherer(), Gatherer()):
        note()
        gathered(gatherer)
    assert SlowQuery.objects.get().count == 2


def test_what_could_not_be_written_is_written_later(monkeypatch):
    gatherer = Gatherer()
    note()
    gatherer.gather()

    def away(*_):
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(slow_queries, "_write", away)
        with pytest.raises(OperationalError):
            gatherer.write()
    note()
    assert gathered(gatherer) == 1
    assert SlowQuery.objects.get().count == 2
    assert gathered(gatherer) == 0


def test_memory_has_a_limit_while_nothing_can_be_written(monkeypatch):
    monkeypatch.setattr(slow_queries, "MOST_GROUPS", 3)
    for number in range(5):
        note(f"SELECT column_{number}")
    note("SELECT column_0")
    assert gathered() == 3
    assert SlowQuery.objects.get(text="SELECT column_0").count == 2


def test_rows_not_seen_for_longest_make_room(monkeypatch):
    monkeypatch.setattr(slow_queries, "MOST_ROWS", 2)
    for number in range(3):
        note(f"SELECT column_{number}")
        gathered()
        SlowQuery.objects.update(last_seen_at=timezone.now() - timedelta(seconds=10 - number))
    assert {row.text for row in SlowQuery.objects.all()} >= {"SELECT column_2"}
    assert SlowQuery.objects.count() == 2


def test_its_own_writes_are_not_noted_again():
    note(work=cursors.thread_work(slow_queries.NAME))
    assert gathered() == 0


def test_the_route_of_a_request_or_the_task_is_told(monkeypatch):
    connection.ensure_connection()
    monkeypatch.setattr(cursors.durations("default", connection.vendor), "_slow_seconds", 0.0)
    token = traffic._current.set(None)
    try:
        traffic.begin_work("agents.run")
        SlowQuery.objects.exists()
    finally:
        traffic._current.reset(token)
    SlowQuery.objects.exists()
    assert {noted.work for noted in cursors.slow} == {"agents.run", "thread MainThread"}


@pytest.mark.parametrize(
    ("name", "work"),
    [("loop-helper_3", "thread loop-helper"), ("ThreadPoolExecutor-0_12", "thread ThreadPoolExecutor")],
)
def test_threads_that_do_the_same_have_one_name(name, work):
    assert cursors.thread_work(name) == work
