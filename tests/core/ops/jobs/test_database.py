from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.utils import timezone

from core.formats import size
from core.models import ApiKey, IdempotencyRecord, MaintenanceRun, User, uuid7
from core.ops import integrity, maintenance
from core.ops.jobs import database
from tests.factories import make_api_key, make_user
from tests.program import wait_for

TABLE = IdempotencyRecord._meta.db_table


def run(job="vacuum_database"):
    return maintenance.run(job, trigger=MaintenanceRun.Trigger.COMMAND)


def ask(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def spare_bytes():
    return database._spare_pages() * pragma("page_size")


def pragma(name):
    return ask(f"PRAGMA {name}")[0][0]


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
@needs_sqlite
def test_a_dry_run_says_whether_the_file_is_worth_it(monkeypatch):
    assert maintenance.preview("vacuum_database") == "It would vacuum the file and analyse its tables."
    run()
    monkeypatch.setattr(database, "ALWAYS_BELOW_BYTES", 0)
    assert "analyse the tables only: under 10 % are free" in maintenance.preview("vacuum_database")


# Pages


@pytest.mark.django_db(transaction=True)
@needs_sqlite
def test_a_new_file_gives_free_pages_back_in_steps(monkeypatch):
    monkeypatch.setattr(database, "STEP_PAGES", 16)
    assert pragma("auto_vacuum") == database.INCREMENTAL
    leave_dead_rows()
    assert maintenance.preview("free_database_pages") == f"It would give back {size(spare_bytes())}."
    row = run("free_database_pages")
    assert row.status == "succeeded", row.error
    assert row.summary.startswith("Gave back ")
    assert row.before["free_bytes"] > 2 * database.STEP_PAGES * pragma("page_size")
    stays = row.before["file_bytes"] * database.STAYS_FREE_PERCENT / 100
    assert row.after["free_bytes"] <= stays
    freed = row.before["free_bytes"] - row.after["free_bytes"]
    assert row.before["file_bytes"] - row.after["file_bytes"] >= freed
    assert integrity.flaws() == []
    assert maintenance.preview("free_database_pages") == "There is nothing to give back."


@pytest.mark.django_db(transaction=True)
@needs_sqlite
def test_a_file_that_cannot_give_pages_back_can_once_it_was_vacuumed():
    ask("PRAGMA auto_vacuum=NONE")
    ask("VACUUM")
    assert "cannot give back single pages yet" in maintenance.preview("free_database_pages")
    assert "cannot give back single pages yet" in run("free_database_pages").summary
    run()
    assert pragma("auto_vacuum") == database.INCREMENTAL


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_postgresql_gives_pages_back_by_itself():
    assert "PostgreSQL does that by itself" in run("free_database_pages").summary


@pytest.fixture
def eager_autovacuum():
    """Autovacuum comes by each second, and finds every row of one table worth it; nobody knows of earlier visits."""
    ask("SELECT pg_stat_reset()")
    ask("ALTER SYSTEM SET autovacuum_naptime = 1")
    ask("SELECT pg_reload_conf()")
    options = "autovacuum_{0}_threshold = 1, autovacuum_{0}_scale_factor = 0"
    ask(f"ALTER TABLE {TABLE} SET ({options.format('vacuum')}, {options.format('analyze')})")
    yield
    reset = "autovacuum_{0}_threshold, autovacuum_{0}_scale_factor"
    ask(f"ALTER TABLE {TABLE} RESET ({reset.format('vacuum')}, {reset.format('analyze')})")
    ask("ALTER SYSTEM RESET autovacuum_naptime")
    ask("SELECT pg_reload_conf()")


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_what_autovacuum_has_just_done_is_not_done_again(eager_autovacuum):
    def done(how):
        found = ask(f"SELECT last_{how}vacuum, last_{how}analyze FROM pg_stat_user_tables WHERE relname = '{TABLE}'")
        return found[0]

    run()
    by_hand = done("")
    leave_dead_rows(100)
    wait_for(lambda: all(done("auto")), "autovacuum came by")
    would = maintenance.preview("vacuum_database")
    assert f"Autovacuum had just vacuumed and analysed {TABLE}." in would
    row = run()
    assert row.summary == would.replace("It would vacuum and analyse", "Vacuumed and analysed")
    assert done("") == by_hand


# Damage


def check():
    return run(database.CHECK)


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_database_that_fits_together_passes():
    make_user()
    row = check()
    assert row.status == "succeeded", row.error
    assert row.summary == f"Nothing is wrong with {integrity.what()}."
    assert maintenance.preview(database.CHECK) == f"It would check {integrity.what()}."


@contextmanager
def without_references():
    """Let rows go that others refer to, as damage would."""
    if connection.vendor == "sqlite":
        off, on = "PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON"
    else:
        off, on = "SET session_replication_role = replica", "SET session_replication_role = DEFAULT"
    ask(off)
    try:
        yield
    finally:
        ask(on)


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_row_that_refers_to_nothing_is_found_and_tells_operators():
    make_api_key(user := make_user())
    with without_references():
        User.objects.filter(pk=user.pk)._raw_delete("default")
    try:
        row = check()
        assert row.status == "failed"
        assert row.error.startswith("DatabaseDamagedError: ")
        assert "core_apikey" in row.error
        assert "core_user" in row.error
        assert intact() == [0]
    finally:
        for model in (ApiKey, User.groups.through):
            model.objects.all()._raw_delete("default")
    check()
    assert intact() == [1]


def intact():
    (family,) = database.verdict_metrics()
    return [sample.value for sample in family.samples]


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_what_postgresql_does_not_hold_for_valid_is_found():
    ask(f"ALTER TABLE {TABLE} ADD CONSTRAINT odd CHECK (length(key) > 0) NOT VALID")
    ask("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sessions_of_owner'::regclass")
    try:
        error = check().error
        assert "the index sessions_of_owner is not valid: REINDEX it" in error
        assert f"the constraint odd of {TABLE} was never checked" in error
    finally:
        ask("UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'sessions_of_owner'::regclass")
        ask(f"ALTER TABLE {TABLE} DROP CONSTRAINT odd")


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
@needs_postgresql
def test_with_amcheck_every_index_is_looked_through():
    leave_dead_rows(10)
    ask("CREATE EXTENSION amcheck")
    try:
        assert "every index with amcheck" in check().summary
        # An index that does not lead to a row of its table any more.
        ask(f"UPDATE pg_index SET indisready = false WHERE indrelid = '{TABLE}'::regclass AND NOT indisprimary")
        leave_dead_rows(1)
        ask(f"UPDATE pg_index SET indisready = true WHERE indrelid = '{TABLE}'::regclass AND NOT indisprimary")
        assert "lacks matching index tuple" in check().error
    finally:
        IdempotencyRecord.objects.all().delete()
        ask(f"REINDEX TABLE {TABLE}")
        ask("DROP EXTENSION amcheck")


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
