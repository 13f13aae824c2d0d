"""Which workers live: each renews a row of its own, so that processes on every host can tell."""

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, connection

from core.models import Lease
from core.ops import clock, leases
from core.ops.processes import ProcessIdentity

logger = logging.getLogger(__name__)

PREFIX = "worker:"
INTERVAL_SECONDS = 10.0
ALIVE_SECONDS = 30.0  # two beats may be missed
FORGET_AFTER = timedelta(hours=1)


class Heartbeat:
    """The thread that tells, as long as this process works."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to tell that this process is a worker that lives; does nothing the second time."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="worker-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell that this worker ends."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(ALIVE_SECONDS)
            self._thread = None

    def _run(self) -> None:
        _try(_forget_the_dead)
        while True:
            _try(beat)
            if self._stopping.wait(INTERVAL_SECONDS):
                break
        _try(lambda: leases.release(_row_name(str(ProcessIdentity.current()))))
        connection.close()


heartbeat = Heartbeat()


def living_workers() -> int:
    """Count the workers that told of themselves lately, without those that this host knows to be dead."""
    rows = Lease.objects.filter(name__startswith=PREFIX, held_until__gte=clock.now())
    return sum(not leases.is_dead(holder) for holder in rows.values_list("holder", flat=True))


def beat() -> None:
    """Tell once that this process lives."""
    me = str(ProcessIdentity.current())
    until = clock.now() + timedelta(seconds=ALIVE_SECONDS)
    Lease.objects.update_or_create(name=_row_name(me), defaults={"holder": me, "held_until": until})


def _row_name(identity: str) -> str:
    """Name the row of a process: identities are longer than a lease's name."""
    return PREFIX + hashlib.sha256(identity.encode()).hexdigest()[:32]


def _try(step: Callable[[], object]) -> None:
    try:
        step()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The worker could not tell that it lives: %s", error)
    except Exception:
        logger.exception("The worker could not tell that it lives.")
    finally:
        if connection.vendor != "sqlite":
            connection.close()  # back to the pool until the next beat


def _forget_the_dead() -> None:
    Lease.objects.filter(name__startswith=PREFIX, held_until__lt=clock.now() - FORGET_AFTER).delete()
