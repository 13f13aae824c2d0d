"""What was refused: one row for equal denials of a minute, however many there are and whichever process refused.

The first of a minute is written at once. Its repeats are counted in this process's memory and added to the row each
second (by the sealer's thread), so that a flood of refused requests costs no write each: they would otherwise reach
the database through the very limits that keep them from it. A process that is killed loses the repeats of a second.
"""

import hashlib
import logging
import threading
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django.utils import timezone

from core.audit import context, counts
from core.audit.entries import Outcome, Subject, columns
from core.models import AuditEntry
from core.models.audit import REPEAT_SECONDS

logger = logging.getLogger(__name__)

ACCESS = "access.denied"
# Rows that one process may begin in a minute. More, as when somebody walks through addresses, share a row.
MAX_ROWS = 500
SHARED = Subject(name="(many more)")


@dataclass
class _Denial:
    """Equal denials of a minute: their row's identity and first columns, and how many are not in the row yet."""

    repeat_id: uuid.UUID
    columns: dict[str, Any]
    count: int = 1


class Denials:
    """What this process refused in the present minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._begun: set[uuid.UUID] = set()
        self._waiting: dict[uuid.UUID, _Denial] = {}

    def note(self, action: str, subject: Subject, detail: str) -> None:
        origin, minute = context.origin(), int(timezone.now().timestamp()) // REPEAT_SECONDS
        denial = _denial(action, subject, detail, origin, minute)
        with self._lock:
            if minute != self._minute:
                self._minute, self._begun = minute, set()
            if len(self._begun) >= MAX_ROWS and denial.repeat_id not in self._begun:
                denial = _denial(action, SHARED, "", context.Origin(), minute)
            is_first = denial.repeat_id not in self._begun
            self._begun.add(denial.repeat_id)
        # A transaction of the caller may be taken back; the denial stands, so it is not written there.
        if not is_first or connection.in_atomic_block or not _try_to_write(denial):
            self._keep(denial)

    def flush(self) -> None:
        """Add what was counted in memory to the rows."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for denial in waiting.values():
            if not _try_to_write(denial):
                self._keep(denial)

    def forget(self) -> None:
        """Begin with nothing refused, as tests do."""
        with self._lock:
            self._minute, self._begun, self._waiting = 0, set(), {}

    def _keep(self, denial: _Denial) -> None:
        with self._lock:
            if known := self._waiting.get(denial.repeat_id):
                known.count += denial.count
            else:
                self._waiting[denial.repeat_id] = denial


_denials = Denials()
flush = _denials.flush
forget = _denials.forget


def denied(subject: Subject, *, action: str = ACCESS, detail: str = "") -> None:
    """Write down that something was refused. It never fails: what was refused stays refused.

    subject: what was asked for. Equal denials of a minute, by actor, address, action and subject, become one row.
    """
    context.tell_refusal()
    try:
        _denials.note(action, subject, detail)
    except (DatabaseError, InterfaceError):
        counts.not_written.inc()
        logger.exception("A denial could not be written down: %s %s", action, subject.name)


def _denial(action: str, subject: Subject, detail: str, origin: context.Origin, minute: int) -> _Denial:
    same = (origin.actor_id, origin.actor_name, origin.address, action, subject, minute)
    digest = hashlib.sha256(repr(same).encode("utf-8", "replace")).digest()
    fields = {"action": action, "outcome": Outcome.REFUSED, **columns(subject, detail, origin)}
    return _Denial(uuid.UUID(bytes=digest[:16]), fields)


def _try_to_write(denial: _Denial) -> bool:
    try:
        write(denial.repeat_id, denial.columns, denial.count)
    except (DatabaseError, InterfaceError) as error:
        counts.written_later.inc()
        logger.warning("A denial is written down later: %s", error)
        return False
    return True


def write(repeat_id: uuid.UUID, fields: dict[str, Any], count: int) -> None:
    """Count denials in their minute's row, or begin it. Any number of processes may do so at once.

    1. Raise the count of the row, if it is there and not sealed.
    2. Else insert it with no count, which does nothing where another process was first, and raise it then.
    3. A row that is sealed already (this process is very late) is left alone: the denials get a row of their own.
    """
    row = AuditEntry.objects.unsealed().filter(repeat_id=repeat_id)
    with transaction.atomic():
        if row.update(count=F("count") + count):
            return
        AuditEntry.objects.bulk_create([AuditEntry(repeat_id=repeat_id, count=0, **fields)], ignore_conflicts=True)
        if not row.update(count=F("count") + count):
            AuditEntry(count=count, **fields).save(force_insert=True)
