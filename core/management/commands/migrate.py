"""manage.py migrate: Django's own, which may take as long as it needs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.commands import migrate
from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

# PostgreSQL ends statements and idle transactions of those that serve requests after seconds. A lock that somebody
# holds still ends a migration soon: whoever holds it works with the database that is to be changed.
LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with _without_limits(connections[options["database"]]):
            super().handle(*args, **options)


@contextmanager
def _without_limits(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        for limit in LIMITS:
            cursor.execute(f"SET {limit} = 0")
    try:
        yield
    finally:
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:  # it may be gone by now
            for limit in LIMITS:
                cursor.execute(f"RESET {limit}")
