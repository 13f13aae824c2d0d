"""API keys that were used lately, and their people, so that a request need not ask the database who sends it.

What is known is compared with the rows every two seconds, all at once, so that a thousand programs cost as little as
one. A key that differs, or was not used since, is looked up anew.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.models import ApiKey, User

# A key that was revoked, or whose user was, may still open doors of other processes for so long.
COMPARE_SECONDS = 2.0
# After this it is looked up anew all the same, with what belongs to its user.
KEEP_SECONDS = 30.0
ROOM = 4096

_KEY_COLUMNS = [field.attname for field in ApiKey._meta.concrete_fields if field.name != "last_used_at"]
_USER_COLUMNS = [field.attname for field in User._meta.concrete_fields if field.name != "last_login"]
_COLUMNS = [*_KEY_COLUMNS, *(f"user__{name}" for name in _USER_COLUMNS)]


@dataclass(eq=False, slots=True)
class _Known:
    """row: as it was when it was looked up. By the steady clock: read_at, and when it was last found to be so."""

    key: ApiKey
    row: tuple[Any, ...]
    read_at: float
    compared_at: float
    is_used: bool = True

    def is_certain(self, now: float) -> bool:
        return now < self.compared_at + COMPARE_SECONDS


class KnownKeys:
    """What one process knows of keys, for all its threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def find(self, key_id: str) -> ApiKey:
        """Find a key by its public part, its user with it. Raises ApiKey.DoesNotExist."""
        known = self._known.get(key_id)
        if known is not None and not known.is_certain(self._clock()):
            self._compare()
            known = self._known.get(key_id)
        if known is None:
            known = self._read(key_id)
        known.is_used = True
        return known.key

    def forget(self) -> None:
        """Look at the rows again: a key or a user was changed."""
        self._known = {}

    def _read(self, key_id: str) -> _Known:
        now, known = self._clock(), self._known
        key = ApiKey.objects.select_related("user").get(key_id=key_id)
        if len(known) >= ROOM:
            known.clear()
        # What was known before a change that was made meanwhile is not asked any more.
        found = known[key_id] = _Known(key, _row_of(key), read_at=now, compared_at=now)
        return found

    def _compare(self) -> None:
        """Keep what is as it was."""
        with self._lock:
            now, known = self._clock(), self._known
            doubtful = [item for item in list(known.values()) if not item.is_certain(now)]
            asked = {item for item in doubtful if item.is_used and now < item.read_at + KEEP_SECONDS}
            rows = ApiKey.objects.filter(pk__in=[item.key.pk for item in asked]).order_by().values_list(*_COLUMNS)
            found = {row[0]: row for row in rows} if asked else {}
            for item in doubtful:
                if item in asked and found.get(item.key.pk) == item.row:
                    item.compared_at, item.is_used = now, False
                else:
                    known.pop(item.key.key_id, None)


def _row_of(key: ApiKey) -> tuple[Any, ...]:
    return (
        *(getattr(key, name) for name in _KEY_COLUMNS),
        *(getattr(key.user, name) for name in _USER_COLUMNS),
    )
