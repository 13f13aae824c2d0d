"""How many tasks this process runs at a time.

Celery's pool has a few threads more than tasks may run (see `core.ops.programs`), so that maintenance, and messages,
never wait for models. A message that comes while all places are taken is turned away; whoever leaves first then looks
for what it was about.
"""

import threading

from django.conf import settings


class Room:
    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._has_turned_away = False
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place; False while there is none."""
        with self._lock:
            if self._taken >= self._places:
                self._has_turned_away = True
                return False
            self._taken += 1
            return True

    @property
    def has_turned_away(self) -> bool:
        """Whether granted tasks may wait that nobody will be told of again."""
        return self._has_turned_away

    def turned_away(self) -> None:
        """Note that there may be more of those."""
        with self._lock:
            self._has_turned_away = True

    def leave(self) -> bool:
        """Give the place back. False, once, where somebody was turned away: keep it, and look for what waits."""
        with self._lock:
            if self._has_turned_away:
                self._has_turned_away = False
                return False
            self._taken -= 1
            return True


room = Room(settings.RUNNER_THREADS)
