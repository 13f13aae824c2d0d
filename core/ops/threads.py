"""Threads that go on for as long as their process: an error costs them a round, never their life."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # after an error


def start_endless(name: str, work: Callable[[], None]) -> threading.Thread:
    """Start a thread that calls `work` for ever. It does one round each time, and its waiting too."""
    thread = threading.Thread(target=_run, args=(name, work), name=name, daemon=True)
    thread.start()
    return thread


def _run(name: str, work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("%s skips a round: %s", name, error)
            _pause()
        except Exception:
            logger.exception("%s skips a round.", name)
            _pause()


def _pause() -> None:
    connection.close()  # it may be what is broken
    time.sleep(PAUSE_SECONDS)
