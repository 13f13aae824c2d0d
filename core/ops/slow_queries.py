"""Keeps what took long: each statement without its values, how often it did, for whom, and how long at worst.

Cursors note slow statements in memory (`core.cursors`). A thread gathers them and writes each group into its row,
every few seconds and in a transaction of its own, so that nobody waits for it. Neither memory nor table grows without
a limit: in a flood what is noted in excess is dropped, and rows that were not seen for longest make room.
"""

import functools
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from core import cursors
from core.cursors import Slow
from core.models import SlowQuery
from core.ops import sql_text
from core.ops.threads import start_endless

NAME = "slow-queries"
ROUND_SECONDS = 5.0
MOST_GROUPS = 200  # kept in memory while the database cannot take them
MOST_ROWS = 1000
MOST_WORK = 120  # characters, as many as the column has


@dataclass
class Group:
    """What one part of the program asked so since it was last written down."""

    text: str
    first_seen_at: datetime
    last_seen_at: datetime
    count: int = 0
    total_seconds: float = 0.0
    worst_seconds: float = 0.0

    def add(self, seconds: float, now: datetime) -> None:
        self.count += 1
        self.total_seconds += seconds
        self.worst_seconds = max(self.worst_seconds, seconds)
        self.last_seen_at = now


Key = tuple[str, str]  # fingerprint and work


class Gatherer:
    """What this process has to write down."""

    def __init__(self) -> None:
        self._groups: dict[Key, Group] = {}

    def gather(self) -> None:
        """Take what the cursors noted."""
        now = timezone.now()
        while cursors.slow:
            noted = cursors.slow.popleft()
            if noted.work != _OWN_WORK:  # our own writes would be slow again and again
                self._add(noted, now)

    def _add(self, noted: Slow, now: datetime) -> None:
        text = sql_text.normalised(noted.sql)
        key = sql_text.fingerprint(text), noted.work[:MOST_WORK]
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            return
        self._groups.setdefault(key, Group(text, now, now)).add(noted.seconds, now)

    def write(self) -> int:
        """Write down what was gathered; returns how many groups. What cannot be written stays for the next time."""
        if not self._groups:
            return 0
        with transaction.atomic():
            for key in sorted(self._groups):  # in one order, so that no two processes wait for each other
                _write(key, self._groups[key])
            _make_room()
        written = len(self._groups)
        self._groups.clear()
        return written


def _write(key: Key, group: Group) -> None:
    fingerprint, work = key
    seen = {"first_seen_at": group.first_seen_at, "last_seen_at": group.last_seen_at}
    row, _ = SlowQuery.objects.get_or_create(fingerprint=fingerprint, work=work, defaults={"text": group.text, **seen})
    SlowQuery.objects.filter(pk=row.pk).update(
        count=F("count") + group.count,
        total_seconds=F("total_seconds") + group.total_seconds,
        worst_seconds=Greatest("worst_seconds", group.worst_seconds),
        last_seen_at=group.last_seen_at,
    )


def _make_room() -> None:
    excess = SlowQuery.objects.order_by("-last_seen_at", "-pk").values_list("pk", flat=True)[MOST_ROWS:]
    if keys := list(excess):
        SlowQuery.objects.filter(pk__in=keys).delete()


_gatherer = Gatherer()
_OWN_WORK = cursors.thread_work(NAME)


@functools.cache
def start() -> threading.Thread:
    """Write down for as long as this process lives; does nothing the second time."""
    return start_endless(NAME, _round)


def _round() -> None:
    time.sleep(ROUND_SECONDS)
    _gatherer.gather()
    if _gatherer.write() and connection.vendor != "sqlite":
        connection.close()  # back to the pool until the next round
