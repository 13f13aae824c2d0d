"""Which processes live: each renews a row of its own, so that processes on every host can tell."""

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from core.models import Lease, Process
from core.ops import clock, leases
from core.ops.processes import ProcessIdentity

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
ALIVE_SECONDS = 30.0  # two beats may be missed

Role = Process.Role


class Heartbeat:
    """The thread that tells, as long as this process works."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, role: "Process.Role", *, threads: int | None = None) -> None:
        """Begin to tell that this process lives, and what it does; does nothing the second time."""
        if self._thread is None:
            me = Process(
                identity=str(ProcessIdentity.current()),
                role=role,
                threads=threads,
                version=settings.VERSION[:30],
            )
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, args=(me,), name="heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell that this process ends."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(ALIVE_SECONDS)
            self._thread = None

    def _run(self, me: Process) -> None:
        is_known = False
        while True:
            is_known = is_known or _try(lambda: introduce(me))
            _try(lambda: beat(Role(me.role)))
            if self._stopping.wait(INTERVAL_SECONDS):
                break
        _try(lambda: _forget(me.identity))
        connection.close()


heartbeat = Heartbeat()


def introduce(me: Process) -> None:
    """Tell once what this process is, and forget those in whose place it comes: dead ones of its kind on this host."""
    for identity in Process.objects.filter(role=me.role).values_list("identity", flat=True):
        if leases.is_dead(identity):
            _forget(identity)
    me.started_at = clock.now()
    me.save()


def beat(role: "Process.Role" = Role.WORKER) -> None:
    """Tell once that this process lives."""
    me = str(ProcessIdentity.current())
    until = clock.now() + timedelta(seconds=ALIVE_SECONDS)
    if not Lease.objects.filter(name=row_name(role, me)).update(held_until=until):
        Lease.objects.create(name=row_name(role, me), holder=me, held_until=until)


def living(role: "Process.Role") -> list[str]:
    """The processes of a kind that told of themselves lately, without those that this host knows to be dead."""
    rows = Lease.objects.filter(name__startswith=f"{role}:", held_until__gte=clock.now())
    return [holder for holder in rows.values_list("holder", flat=True) if not leases.is_dead(holder)]


def living_workers() -> int:
    return len(living(Role.WORKER))


def row_name(role: str, identity: str) -> str:
    """Name the row of a process: identities are longer than a lease's name."""
    return f"{role}:{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def _forget(identity: str) -> None:
    Lease.objects.filter(name__in=[row_name(role, identity) for role in Role.values]).delete()
    Process.objects.filter(pk=identity).delete()


def _try(step: Callable[[], object]) -> bool:
    try:
        step()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The process could not tell that it lives: %s", error)
        return False
    except Exception:
        logger.exception("The process could not tell that it lives.")
        return False
    finally:
        if connection.vendor != "sqlite":
            connection.close()  # back to the pool until the next beat
    return True
