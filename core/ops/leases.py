"""Rights that one process at a time has, as rows: they end by themselves when their holder dies."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q, QuerySet

from core.models import Lease
from core.ops import clock
from core.ops.processes import ProcessIdentity, is_alive, is_on_this_host

logger = logging.getLogger(__name__)


def take(name: str, *, seconds: float, renews: bool = False) -> bool:
    """Take a lease for this process, for so many seconds; False while somebody else holds it.

    A lease is free once its time is up, and at once when its holder was a process of this host that is dead.
    renews: whether a lease that this process holds already counts as free.
    """
    return _take(name, seconds=seconds, renews=renews) is not None


def _take(name: str, *, seconds: float, renews: bool = False) -> datetime | None:
    """Take a lease; returns until when it is held."""
    me = str(ProcessIdentity.current())
    now = clock.now()
    lease, _ = Lease.objects.get_or_create(
        name=name, defaults={"holder": "", "held_until": now - timedelta(seconds=1)}
    )
    free = Q(held_until__lt=now)
    if renews:
        free |= Q(holder=me)
    if is_dead(lease.holder):
        free |= Q(holder=lease.holder)
    until = now + timedelta(seconds=seconds)
    return until if Lease.objects.filter(free, name=name).update(holder=me, held_until=until) else None


def note_done(name: str) -> None:
    """Write down that this process, whose lease it is, has just done its duty: to hold one is not to do it."""
    Lease.objects.filter(name=name, holder=str(ProcessIdentity.current())).update(done_at=clock.now())


def release(name: str) -> None:
    """Give a lease of this process back."""
    Lease.objects.filter(name=name, holder=str(ProcessIdentity.current())).delete()


@contextmanager
def held(name: str, *, seconds: float, renew_every_seconds: float) -> Iterator[bool]:
    """Hold a lease for as long as the block runs, however long that is; yields False if somebody else holds it.

    A thread renews it. seconds: for how long others leave it alone after it was renewed last.
    """
    until = _take(name, seconds=seconds)
    if until is None:
        yield False
        return
    holding = _Holding(name, until, seconds)
    thread = threading.Thread(target=holding.renew, args=(renew_every_seconds,), name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        holding.ended.set()
        thread.join()
        holding.rows().delete()


class _Holding:
    """A lease that is held. Others of this process, which hold it later, are told apart by their moments."""

    def __init__(self, name: str, until: datetime, seconds: float) -> None:
        self.name, self.until, self.seconds = name, until, seconds
        self.ended = threading.Event()

    def rows(self) -> QuerySet[Lease]:
        me = str(ProcessIdentity.current())
        return Lease.objects.filter(name=self.name, holder=me, held_until=self.until)

    def renew(self, every_seconds: float) -> None:
        while not self.ended.wait(every_seconds):
            try:
                until = clock.now() + timedelta(seconds=self.seconds)
                if not self.rows().update(held_until=until):
                    logger.error("The lease %s was lost: others may do what this process still does.", self.name)
                    break
                self.until = until
            except (DatabaseError, InterfaceError) as error:
                logger.warning("The lease %s was not renewed: %s", self.name, error)
            finally:
                connection.close()


def is_dead(holder: str) -> bool:
    """Tell whether a holder is known to be dead: only its own host can know."""
    return is_on_this_host(holder) and not is_alive(holder)
