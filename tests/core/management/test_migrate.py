"""Migrations may take longer than requests."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.models.signals import pre_migrate

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture(autouse=True)
def _postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite knows no limits.")


def ask(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


@pytest.fixture
def slow_migration():
    """Something that takes longer than a statement may, each time something is migrated."""

    def sleep(**_: Any) -> None:
        ask("SELECT pg_sleep(0.2)")

    pre_migrate.connect(sleep)
    yield
    pre_migrate.disconnect(sleep)


@pytest.fixture(autouse=True)
def _new_connection(_postgresql: None) -> Iterator[None]:
    """With the limits of those that serve, and none that another test has set."""
    connection.close()
    ask(f"RESET {LIMITS[0]}")
    yield
    ask(f"RESET {LIMITS[0]}")


def limits() -> list[Any]:
    return [ask(f"SHOW {limit}") for limit in LIMITS]


def test_a_statement_of_a_migration_takes_as_long_as_it_needs(slow_migration: None) -> None:
    before = limits()
    assert ("0",) not in before
    ask("SELECT set_config('statement_timeout', '50', false)")
    call_command("migrate", "contenttypes", verbosity=0)
    assert limits() == before
    ask("SELECT set_config('statement_timeout', '50', false)")
    with pytest.raises(OperationalError):
        ask("SELECT pg_sleep(0.2)")


def test_a_migration_that_fails_leaves_the_limits_as_they_were() -> None:
    before = limits()

    def fail(**_: Any) -> None:
        raise ValueError("no such luck")

    pre_migrate.connect(fail)
    try:
        with pytest.raises(ValueError, match="no such luck"):
            call_command("migrate", "contenttypes", verbosity=0)
    finally:
        pre_migrate.disconnect(fail)
    assert limits() == before
