"""Pooled connections to PostgreSQL that died while nobody used them."""

import psycopg
import pytest
from django.db import connection

from core.postgresql import base

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL's backend; the run on PostgreSQL tests it")


def _backend_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _address() -> str:
    """Where the database is, for a session beside Django's pool."""
    own = connection.settings_dict
    return psycopg.conninfo.make_conninfo(host=own["HOST"], port=own["PORT"], user=own["USER"], dbname=own["NAME"])


def test_connections_that_died_in_the_pool_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSE_SECONDS", 0.0)
    before = _backend_id()
    connection.close()
    with psycopg.connect(_address()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    after = set()
    for _ in range(connection.pool.get_stats()["pool_size"]):
        after.add(_backend_id())
        connection.close()
    assert before not in after


def test_a_connection_that_was_used_a_moment_ago_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(connection.pool.get_stats()["pool_size"]):  # the pool hands its connections out by turns
        _backend_id()
        connection.close()
    checked: list[object] = []
    monkeypatch.setattr(base.ConnectionPool, "check_connection", checked.append)
    for _ in range(5):
        _backend_id()
        connection.close()
    assert checked == []
