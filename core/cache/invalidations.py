"""How tags invalidate, at once and in every process.

1. The change that calls for it and the row that tells of it are one transaction: neither is lost without the other.
2. Once that is committed, the store gets the tag's new generation. Each look compares generations, so that from then
   on no process finds what was made under an older one, in either level; nor is anything found later whose making
   began before.
3. A store that is away gets it before it is believed again. Until then, no process trusts its own copies with the tag.
4. A process that dies in between leaves the row, and the next one carries it out. Likewise a store that was out of
   use, because the settings named another, gets all that it missed.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet
from django.utils import timezone

from core.cache.entries import MAX_TTL_SECONDS, new_generation
from core.cache.stores import Store, store
from core.models import CacheInvalidation


def announce(tags: Collection[str]) -> None:
    """Write down that these tags have other generations from now on, in the caller's transaction."""
    CacheInvalidation.objects.bulk_create(
        [CacheInvalidation(tag=tag, generation=new_generation(), at=timezone.now()) for tag in sorted(tags)],
        update_conflicts=True,
        unique_fields=["tag"],
        update_fields=["generation", "at", "store"],
    )


def carry_out(to: Store) -> int:
    """Tell a store the generations that it does not have yet; returns how many. Raises its errors."""
    owed = dict(CacheInvalidation.objects.exclude(store=to.name).values_list("tag", "generation"))
    if owed:
        to.renew(owed)
    for tag, generation in owed.items():
        # Unless it has been invalidated again.
        CacheInvalidation.objects.filter(tag=tag, generation=generation).update(store=to.name)
    return len(owed)


def may_be_missed(tags: Collection[str], since: datetime) -> bool:
    """Tell whether one who has not heard of the store since then may have missed an invalidation of these tags."""
    rows = CacheInvalidation.objects.filter(tag__in=tags)
    try:
        return rows.filter(Q(at__gte=since) | ~Q(store=store().name)).exists()
    except DatabaseError:
        return True


def hold(tags: Collection[str]) -> bool:
    """Tell whether the store knows of every invalidation of these tags."""
    return not CacheInvalidation.objects.filter(tag__in=tags).exclude(store=store().name).exists()


def forgettable() -> QuerySet[CacheInvalidation]:
    """Rows older than anything that any store may still give out."""
    oldest = timezone.now() - timedelta(seconds=MAX_TTL_SECONDS)
    return CacheInvalidation.objects.filter(at__lt=oldest, store=store().name)
