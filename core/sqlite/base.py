"""The database backend; see the package."""

import functools
import sqlite3
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3.base import FORMAT_QMARK_REGEX, SQLiteCursorWrapper
from django_prometheus.db.backends.sqlite3 import base

from core import cursors


class _Cursor(SQLiteCursorWrapper):
    """The driver's cursor, for statements with Django's placeholders; each text is looked through once."""

    def execute(self, query: str, params: Any = None) -> Any:
        if isinstance(params, list | tuple):
            return sqlite3.Cursor.execute(self, _with_question_marks(query), params)
        return super().execute(query, params)


@functools.lru_cache(maxsize=256)
def _with_question_marks(query: str) -> str:
    return FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


class DatabaseWrapper(base.DatabaseWrapper):
    """Opens cursors in one step. SQLite's connections need no check of their health.

    A file that it makes can give free pages back one by one (the job free_database_pages).
    """

    @functools.cached_property
    def _counting_cursor(self) -> Any:
        return cursors.counting_fetches(_Cursor, self.alias, self.vendor)

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        file = Path(params["database"])
        if not file.exists() or not file.stat().st_size:
            # Only before its first page: later it would have every new connection write.
            self.init_commands.insert(0, "PRAGMA auto_vacuum=INCREMENTAL")
        return params

    def _cursor(self, name: str | None = None) -> Any:
        if self.connection is None or self.queries_logged:
            return super()._cursor(name)
        self.validate_thread_sharing()
        return cursors.Cursor(self.connection.cursor(factory=self._counting_cursor), self)

    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=self._counting_cursor)

    def make_cursor(self, cursor: Any) -> cursors.Cursor:
        return cursors.Cursor(cursor, self)
