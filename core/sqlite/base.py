"""The database backend; see the package."""

from functools import cached_property
from typing import Any

from django_prometheus.db.backends.sqlite3 import base
from django_prometheus.db.common import ExportingCursorWrapper


class DatabaseWrapper(base.DatabaseWrapper):
    """Opens cursors of one class; the base makes a class for each cursor, which takes longer than a small query."""

    @cached_property
    def _counting_cursor(self) -> Any:
        return ExportingCursorWrapper(self.CURSOR_CLASS, self.alias, self.vendor)

    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=self._counting_cursor)
