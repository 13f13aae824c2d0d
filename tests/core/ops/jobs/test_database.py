import pytest
from django.db import connection, transaction
from django.utils import timezone

from core.models import IdempotencyRecord, MaintenanceRun, uuid7
from core.ops import maintenance
from core.ops.jobs import database

TABLE = IdempotencyRecord._meta.db_table


def run():
    return maintenance.run("vacuum_database", trigger=MaintenanceRun.Trigger.COMMAND)


def leave_dead_rows(count=3000):
    IdempotencyRecord.objects.bulk_create(
        IdempotencyRecord(
            principal="1",
            route="tasks.create",
            key=str(number),
            body_hash="x" * 64,
            object_id=uuid7(),
            created_at=timezone.now(),
        )
        for number in range(count)
    )
    IdempotencyRecord.objects.filter(key__gt="2").delete()


needs_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's own VACUUM")
needs_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's own VACUUM")


@pytest.mark.django_db(transaction=True)
@needs_sqlite
def test_vacuum_makes_the_file_smaller_and_empties_the_log():
    leave_dead_rows()
    row = run()
    assert row.status == "succeeded", row.error
    assert row.before["free_bytes"] > 100_000
    assert row.after["free_bytes"] == 0
    assert row.after["file_bytes"] <= row.before["file_bytes"] - row.before["free_bytes"] + 64 * 1024
    assert row.after["log_bytes"] == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl = %s", [TABLE])
        assert cursor.fetchone()[0] > 0


@pytest.mark.django_db(transaction=True)
@needs_sqlite
def test_a_large_file_with_little_to_gain_is_only_analysed(monkeypatch):
    run()
    monkeypatch.setattr(database, "ALWAYS_BELOW_BYTES", 0)
    row = run()
    assert row.status == "succeeded", row.error
    assert row.summary.startswith("Analysed")


@pytest.mark.django_db(transaction=True)
@needs_sqlite
def test_a_large_file_with_much_to_gain_is_vacuumed(monkeypatch):
    monkeypatch.setattr(database, "ALWAYS_BELOW_BYTES", 0)
    leave_dead_rows()
    row = run()
    assert row.after["free_bytes"] == 0 < row.before["free_bytes"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_vacuum_clears_the_dead_rows_of_each_table():
    leave_dead_rows()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    row = run()
    assert row.status == "succeeded", row.error
    assert row.before[f"dead_rows:{TABLE}"] > 1000
    assert row.after.get(f"dead_rows:{TABLE}", 0) == 0
    assert row.after["database_bytes"] > 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_analyze FROM pg_stat_user_tables WHERE relname = %s", [TABLE])
        assert cursor.fetchone()[0] is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_the_session_is_as_impatient_as_before():
    def timeout():
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            return cursor.fetchone()[0]

    before = timeout()
    with database._patience():
        assert timeout() == "20min"
    assert timeout() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_vacuum_inside_a_transaction_is_a_failure_that_says_so():
    with transaction.atomic():
        row = run()
    assert row.status == "failed"
    assert "transaction" in row.error
