"""What PostgreSQL tells of its sessions and statements; SQLite has nothing to tell."""

import shutil
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from core.ops import running_queries
from tests.services.servers import PostgreSQL

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no sessions")


@pytest.fixture
def stranger(monkeypatch):
    """A session of another program; whatever it does takes too long."""
    monkeypatch.setattr(running_queries, "TOO_LONG_SECONDS", 0)
    given = connection.get_connection_params()
    params = {name: given[name] for name in ("dbname", "user", "password", "host", "port") if given.get(name)}
    with psycopg.connect(**params, application_name="stranger", autocommit=True) as session:
        yield session


def of_the_stranger():
    return [found for found in running_queries.running_too_long() if found.program == "stranger"]


@on_postgresql
def test_a_statement_that_runs_too_long_is_found_and_cancelled(stranger, wait_until):
    ended = []

    def sleep():
        with pytest.raises(psycopg.errors.QueryCanceled):
            stranger.execute("SELECT pg_sleep(60), 'hunter2'")
        ended.append(True)

    thread = threading.Thread(target=sleep)
    thread.start()
    wait_until(of_the_stranger)
    (found,) = of_the_stranger()
    assert (found.text, found.is_idle) == ("SELECT pg_sleep(%s), %s", False)
    assert running_queries.stop(found.pid, found.since)
    thread.join(10)
    assert ended
    assert not running_queries.stop(found.pid, found.since)
    assert of_the_stranger() == []


@on_postgresql
def test_a_transaction_left_open_is_found_and_its_session_ended(stranger):
    stranger.execute("BEGIN")
    stranger.execute("SELECT 1")
    (found,) = of_the_stranger()
    assert found.is_idle
    assert running_queries.stop(found.pid, found.since)
    with pytest.raises(psycopg.OperationalError):
        stranger.execute("SELECT 1")


@on_postgresql
def test_what_has_gone_on_to_something_else_is_left_alone(stranger):
    stranger.execute("BEGIN")
    (found,) = of_the_stranger()
    stranger.execute("SELECT 1")
    assert not running_queries.stop(found.pid, found.since)
    assert stranger.execute("SELECT 2").fetchone() == (2,)


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="of SQLite")
def test_sqlite_has_nothing_to_tell():
    assert running_queries.running_too_long() == []
    assert running_queries.statistics() is None


@on_postgresql
def test_without_the_extension_there_are_no_statistics():
    assert running_queries.statistics() is None


@pytest.fixture
def server():
    """A server that has pg_stat_statements loaded."""

    class WithStatistics(PostgreSQL):
        def command(self):
            return [*super().command(), "-c", "shared_preload_libraries=pg_stat_statements"]

    folder = Path(tempfile.mkdtemp(prefix="sutazai-statistics-"))
    folder.chmod(0o755)
    server = WithStatistics(folder)
    try:
        server.prepare()
        server.start()
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@on_postgresql
def test_the_extensions_statistics_are_read_without_values(server, monkeypatch):
    monkeypatch.setattr("django.conf.settings.SLOW_QUERY_SECONDS", 0.02)
    with psycopg.connect(server.url, autocommit=True) as session:
        session.execute("CREATE EXTENSION pg_stat_statements")
        for _ in range(2):
            session.execute("SELECT pg_sleep(0.05), 'hunter2'")
        session.execute("SELECT 1")
        monkeypatch.setattr(running_queries, "_rows", lambda sql, values=(): session.execute(sql, values).fetchall())
        (found,) = [item for item in running_queries.statistics() if "pg_sleep" in item.text]
    assert found.text == "SELECT pg_sleep(%s), %s"
    assert found.count == 2
    assert found.worst_seconds >= found.mean_seconds >= 0.05
    assert found.total_seconds == pytest.approx(2 * found.mean_seconds)
