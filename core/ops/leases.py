"""Rights that one process at a time has, as rows: they end by themselves when their holder dies."""

from datetime import timedelta

from django.db.models import Q

from core.models import Lease
from core.ops import clock
from core.ops.processes import ProcessIdentity, is_alive, is_on_this_host


def take(name: str, *, seconds: float, renews: bool = False) -> bool:
    """Take a lease for this process, for so many seconds; False while somebody else holds it.

    A lease is free once its time is up, and at once when its holder was a process of this host that is dead.
    renews: whether a lease that this process holds already counts as free.
    """
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
    return bool(Lease.objects.filter(free, name=name).update(holder=me, held_until=until))


def release(name: str) -> None:
    """Give a lease of this process back."""
    Lease.objects.filter(name=name, holder=str(ProcessIdentity.current())).delete()


def is_dead(holder: str) -> bool:
    """Tell whether a holder is known to be dead: only its own host can know."""
    return is_on_this_host(holder) and not is_alive(holder)
