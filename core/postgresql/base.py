"""The database backend; see the package."""

import time
from collections import defaultdict
from typing import Any

from django.db.backends.postgresql import base
from django_prometheus.db.common import DatabaseWrapperMixin
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

from core import cursors
from core.postgresql.absence import Absence

# A check is a trip to the server, as dear as a query; a connection that was used a moment ago needs none.
PAUSE_SECONDS = 1.0

_absences: defaultdict[str, Absence] = defaultdict(Absence)  # by the database's alias


class DatabaseWrapper(DatabaseWrapperMixin, base.DatabaseWrapper):
    """Takes connections from the pool; one that has died since its last use is replaced."""

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        return params | {"cursor_factory": cursors.counting(params["cursor_factory"], self.alias, self.vendor)}

    def create_cursor(self, name: str | None = None) -> Any:
        return base.DatabaseWrapper.create_cursor(self, name)  # not the mixin's: connections make ours already

    def make_cursor(self, cursor: Any) -> cursors.Cursor:
        return cursors.Cursor(cursor, self)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.pool is None:
            return super().get_new_connection(conn_params)
        while True:
            with _absences[self.alias].noticed(self.pool):
                connection = super().get_new_connection(conn_params)
            if _works(connection):
                return connection
            self.pool.putconn(connection)

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.last_used_at = time.monotonic()
        super()._close()


def _works(connection: Any) -> bool:
    last_used_at = getattr(connection, "last_used_at", None)
    if last_used_at is not None and time.monotonic() - last_used_at < PAUSE_SECONDS:
        return True
    try:
        ConnectionPool.check_connection(connection)
    except OperationalError:
        return False
    return True
