"""Celery beat, of which only one sends: a second one, on this machine or another, stands by.

1. Who has the duty (a lease) sends what is due, and writes down that it did.
2. When it dies, another beat of its host takes over within a second; elsewhere, once the lease has run out.
3. Who takes over reads the schedule anew, and so knows what was sent: no turn comes twice, and one that was missed
   meanwhile comes at once.

A beat that is killed between sending and writing that down has sent a turn that nobody knows of. It comes again, which
does no harm: see `sutazai.schedules`.
"""

import logging
import time
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django_celery_beat.schedulers import DatabaseScheduler

from core.ops import leases

logger = logging.getLogger(__name__)

DUTY = "beat"
DUTY_SECONDS = 30.0
RENEW_SECONDS = 10.0
STANDBY_SECONDS = 1.0


class Scheduler(DatabaseScheduler):
    """Named in the settings; Celery asks it again and again what to do, by `tick`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._renew_duty_at = float("-inf")  # of the steady clock
        self._is_on_duty = False
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send one thing that is due, where this process has the duty; returns the seconds until the next look."""
        try:
            if not self._has_duty():
                return STANDBY_SECONDS
            return min(float(super().tick(*args, **kwargs)), RENEW_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Schedules wait for the database: %s", error)
            connection.close()  # it may be what is broken
            self._is_on_duty = False
            self._renew_duty_at = float("-inf")
            return STANDBY_SECONDS

    def close(self) -> None:
        """Write down what was sent, and let another beat take over at once."""
        super().close()
        try:
            leases.release(DUTY)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The duty of beat runs out by itself: %s", error)

    def _has_duty(self) -> bool:
        if time.monotonic() < self._renew_duty_at:
            return self._is_on_duty
        close_old_connections()
        had_duty, self._is_on_duty = self._is_on_duty, leases.take(DUTY, seconds=DUTY_SECONDS, renews=True)
        if not self._is_on_duty:
            if had_duty:
                logger.warning("Another beat sends now; this one stands by.")
            return False
        if not had_duty:
            self._begin_anew()
        self._renew_duty_at = time.monotonic() + RENEW_SECONDS
        return True

    def _begin_anew(self) -> None:
        """Believe the rows alone: another beat may have sent what this one remembers as due."""
        self._dirty.clear()
        self._initial_read = True
        self._heap = None
