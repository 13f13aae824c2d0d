"""Chaining what was written, each second.

Were rows chained where they are written, every transaction would wait for the one before it: one lock for everything.
So a row is written alone, and one process at a time seals what has gathered. On PostgreSQL a row may appear later than
one with a larger id, because ids are drawn before the commit; its place in the chain is given here, so nothing is
missed. Between its commit and its seal, a second at most while a process serves, a row has no protection but the
database's own; `manage.py audit verify` tells how much is in that state.
"""

import functools
import threading
import time

from django.db import connection, transaction
from django.utils import timezone

from core.audit import denials
from core.audit.seal import CONTENT, canonical, head, seal_of
from core.models import AuditEntry
from core.ops import leases, threads

DUTY = "audit:sealer"
DUTY_SECONDS = 30.0
ROUND_SECONDS = 1.0
BATCH = 500  # rows for each transaction, so that others get their turn in between


@functools.cache
def start() -> threading.Thread:
    """Seal for as long as this process lives; does nothing the second time."""
    return threads.start_endless("audit-sealer", _round)


def stop() -> None:
    """Write what is in memory alone, before the process ends."""
    denials.flush()


def _round() -> None:
    denials.flush()
    seal_waiting()
    if connection.vendor != "sqlite":
        connection.close()  # back to the pool until the next round
    time.sleep(ROUND_SECONDS)


def seal_waiting() -> int:
    """Seal everything that can be sealed, unless another process does; returns how many rows."""
    sealed = 0
    while AuditEntry.objects.unsealed().settled(timezone.now()).exists():
        if not leases.take(DUTY, seconds=DUTY_SECONDS, renews=True):
            break
        sealed += seal_batch()
    return sealed


def seal_batch() -> int:
    """Seal the oldest unsealed rows; returns how many.

    The lease keeps others away, and where it fails (this process slept, and lost it) the database does: rows are
    locked before the head is read, and two rows cannot have one place. Then this transaction fails and nothing of it
    stays.
    """
    with transaction.atomic():
        rows = list(_lock_oldest())
        last, seal = head()
        sealed = []
        for place, values in enumerate(rows, start=last + 1):
            seal = seal_of(seal, place, canonical(values))
            sealed.append((place, seal, values[0]))
        with connection.cursor() as cursor:
            # One prepared statement for all, where the ORM would compose a CASE with an arm for every row.
            cursor.executemany(
                "UPDATE core_auditentry SET sequence = %s, seal = %s WHERE id = %s AND sequence IS NULL", sealed
            )
    return len(sealed)


def _lock_oldest() -> list[tuple[int | str, ...]]:
    rows = AuditEntry.objects.unsealed().settled(timezone.now()).order_by("id")
    return list(rows.select_for_update().values_list(*CONTENT)[:BATCH])
