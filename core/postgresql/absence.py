"""What a process knows of a server that is away: one thread asks for it now and then, and others are refused at once.

Each would wait for the pool otherwise, which tries to connect meanwhile, and keep a thread of those who serve.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import OperationalError
from psycopg_pool import PoolTimeout

ASK_AGAIN_SECONDS = 1.0


class Absence:
    """Of one server, for all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ask_at: float | None = None  # of the steady clock; None while the server is there

    @contextmanager
    def noticed(self, pool: Any) -> Iterator[None]:
        """Take a connection from the pool within this. Raises OperationalError where that would be in vain."""
        self._refuse_in_vain(pool)
        errors = _errors(pool)
        try:
            yield
        except PoolTimeout:
            if _errors(pool) > errors:  # it was not for want of room
                with self._lock:
                    self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            raise
        if self._ask_at is not None:
            with self._lock:
                self._ask_at = None

    def _refuse_in_vain(self, pool: Any) -> None:
        if self._ask_at is None or pool.get_stats()["pool_available"]:
            return
        now = time.monotonic()
        with self._lock:
            if self._ask_at is not None and now < self._ask_at:
                raise OperationalError("PostgreSQL does not answer.")
            self._ask_at = now + pool.timeout + ASK_AGAIN_SECONDS  # meanwhile we wait for all


def _errors(pool: Any) -> int:
    return int(pool.get_stats().get("connections_errors", 0))
