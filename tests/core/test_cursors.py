import math
import os
import subprocess
import sys
import threading
from collections import Counter as Counts
from pathlib import Path

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from core import cursors
from core.models import Lease, Team

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

ROOT = Path(__file__).parents[2]


def figure(name, **labels):
    cursors.publish()
    return REGISTRY.get_sample_value(name, {"alias": "default", "vendor": connection.vendor, **labels}) or 0


def figures():
    connection.ensure_connection()  # which may take a statement
    return Counts(
        {name: figure(f"django_db_{name}") for name in ("execute_total", "execute_many_total")},
        timed=figure("django_db_query_duration_seconds_count"),
    )


def test_every_statement_is_counted_and_timed():
    before = figures()
    Team.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT %s", [2])
        assert cursor.fetchone() == (2,)
    assert figures() - before == {"execute_total": 3, "timed": 3}


def test_a_call_with_many_statements_is_counted_as_so_many_and_timed_once():
    before = figures()
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM core_lease WHERE name = %s", [["a"], ["b"], ["c"]])
    assert figures() - before == {"execute_total": 3, "execute_many_total": 3, "timed": 1}


def test_statements_of_all_threads_are_counted():
    def ask():
        for _ in range(200):
            Team.objects.exists()
            cursors.publish()
        connection.close()

    before = figures()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = figures() - before
    assert made["execute_total"] == made["timed"] >= 4 * 200


def test_errors_are_django_s_and_are_counted_by_type():
    def failed():
        return sum(
            sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name == "django_db_errors_total" and sample.labels["vendor"] == connection.vendor
        )

    before = failed()
    with pytest.raises(DatabaseError) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    assert isinstance(caught.value.__cause__, connection.Database.Error)
    Lease.objects.create(name="one", holder="", held_until="2030-01-01T00:00Z")
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute("INSERT INTO core_lease SELECT * FROM core_lease")
    assert failed() == before + 2


SERIES = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT {} FROM n{}"


@pytest.fixture
def slow():
    """What is noted as slow; only what these tests ask for takes long."""
    cursors.slow.clear()
    yield cursors.slow
    cursors.slow.clear()


@pytest.mark.parametrize("ending", [" WHERE i = 0", " WHERE i >= 300000"])
def test_what_takes_long_is_noted_without_its_values_however_its_rows_come(slow, monkeypatch, ending):
    monkeypatch.setattr(cursors.durations("default", connection.vendor), "_slow_seconds", 0.02)
    with connection.cursor() as cursor:
        cursor.execute(SERIES.format("i, %s", ending), ["hunter2"])
        cursor.fetchall()
    (noted,) = [found for found in slow if " n(i) " in found.sql]  # the machine may be slow, too
    assert noted.sql == SERIES.format("i, %s", ending)
    assert 0.02 <= noted.seconds < 60
    assert noted.work == "thread MainThread"


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL finds all rows before it answers")
def test_rows_that_are_slow_to_fetch_are_noted_when_all_are_there(slow, monkeypatch):
    monkeypatch.setattr(cursors.durations("default", connection.vendor), "_slow_seconds", 0.02)
    with connection.cursor() as cursor:
        cursor.execute(SERIES.format("i", " WHERE i IN (1, 300000)"))  # the first is found at once
        assert not slow
        assert cursor.fetchmany(10) == [(1,), (300000,)]
    (noted,) = [found for found in slow if " n(i) " in found.sql]
    assert noted.seconds >= 0.02


def test_what_is_fast_is_not_noted_and_nothing_is_where_it_is_switched_off(slow, monkeypatch):
    Team.objects.count()
    monkeypatch.setattr(cursors.durations("default", connection.vendor), "_slow_seconds", math.inf)
    with connection.cursor() as cursor:
        cursor.execute(SERIES.format("count(*)", ""))
        cursor.fetchall()
    assert not slow


def test_a_flood_of_slow_statements_takes_no_more_room(slow, monkeypatch):
    monkeypatch.setattr(cursors.durations("default", connection.vendor), "_slow_seconds", 0.0)
    for _ in range(cursors.MOST_SLOW + 10):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert len(slow) == cursors.MOST_SLOW


def test_kinds_of_statements_are_told_apart():
    def counted():
        connection.ensure_connection()  # which may take a statement
        cursors.publish()
        return Counts(
            {
                kind: REGISTRY.get_sample_value("db_query_duration_seconds_count", {"query_type": kind}) or 0
                for kind in (*cursors.QUERY_TYPES.values(), cursors.OTHER)
            }
        )

    before = counted()
    with transaction.atomic():
        team = Team.objects.create(name="one")
        Team.objects.filter(pk=team.pk).update(name="two")
        assert Team.objects.filter(name="two").exists()
        Team.objects.filter(pk=team.pk)._raw_delete("default")
    with connection.cursor() as cursor:
        cursor.execute("  \nWITH one AS (SELECT 1) SELECT * FROM one")
        cursor.execute("CREATE TEMPORARY TABLE passing (id integer)")
        cursor.execute("DROP TABLE passing")
    grown = counted() - before
    assert {kind: grown[kind] for kind in ("insert", "update", "delete", "other")} == {
        "insert": 1,
        "update": 1,
        "delete": 1,
        "other": 2,
    }
    assert grown["select"] >= 2


def test_a_broken_transaction_takes_no_more_statements():
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            Team.objects.count()


def test_percent_signs_in_a_text_stay_what_they_are():
    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute("SELECT '100%%', %s", ["%s"])
            assert cursor.fetchall() == [("100%", "%s")]


def test_many_amounts_are_observed_as_one_by_one():
    amounts = [0.0, 0.004, 0.005, 0.1, 9.0, 10.0, 11.0, 1e9]
    together, alone = (Histogram(name, "", registry=CollectorRegistry()) for name in ("together", "alone"))
    cursors.observe_all(together, amounts)
    for amount in amounts:
        alone.observe(amount)

    def values(histogram):
        (metric,) = histogram.collect()
        return [(s.name.partition("_")[2], s.labels, s.value) for s in metric.samples if "created" not in s.name]

    assert values(together) == values(alone)


SCRIPT = """
import django
django.setup()
from django.db import connection
for _ in range(7):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
"""
READER = """
import django
django.setup()
from core.ops import metrics
print(sum(value for _, value in metrics.totals().each("django_db_execute_total")))
"""


def test_what_a_process_asked_is_known_after_its_end(tmp_path):
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "tests.settings"}

    def run(script):
        return subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        ).stdout

    run(SCRIPT)
    assert float(run(READER)) >= 7
