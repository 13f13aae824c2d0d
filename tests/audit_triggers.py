"""The triggers that keep the audit log's rows: away, so that tests can empty their tables, or back for a test of them.

What lifts them fails if the migrations did not make them.
"""

from importlib import import_module

from django.db import connection

_migration = import_module("core.migrations.0003_audit_log")

CONTENT: str = _migration.CONTENT  # the columns that never change


def lift() -> None:
    """Let rows be deleted."""
    with connection.cursor() as cursor:
        for name in _migration.AGAINST_DELETION[connection.vendor]:
            on = " ON core_auditentry" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {name}{on}")


def install() -> None:
    """Refuse it again, as the migration does."""
    with connection.cursor() as cursor:
        for statement in _migration.AGAINST_DELETION[connection.vendor].values():
            cursor.execute(statement)
