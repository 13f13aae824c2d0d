"""The database backend; see the package."""

import time
from typing import Any

from django_prometheus.db.backends.postgresql import base
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

# A check is a trip to the server, as dear as a query; a connection that was used a moment ago needs none.
PAUSE_SECONDS = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes connections from the pool; one that has died since its last use is replaced."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        while True:
            connection = super().get_new_connection(conn_params)
            if self.pool is None or _works(connection):
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
