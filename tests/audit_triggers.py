"""The triggers that keep the audit log's rows: away, so that tests can empty their tables, or back for a test of them.

What lifts them fails if the migrations did not make them.
"""

from importlib import import_module

from django.db import connection

_first = import_module("core.migrations.0003_audit_log")
_later = import_module("core.migrations.0008_monthly_budgets_and_audit_beginning")

CONTENT: str = _first.CONTENT  # the columns that never change


def lift() -> None:
    """Let rows be deleted."""
    with connection.cursor() as cursor:
        for name in _against_deletion():
            on = " ON core_auditentry" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {name}{on}")


def install() -> None:
    """Refuse it again, as the migration does."""
    with connection.cursor() as cursor:
        for statement in _against_deletion().values():
            cursor.execute(statement)


def _against_deletion() -> dict[str, str]:
    return _first.AGAINST_DELETION[connection.vendor] | _later.AGAINST_DELETION[connection.vendor]
