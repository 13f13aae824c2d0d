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
