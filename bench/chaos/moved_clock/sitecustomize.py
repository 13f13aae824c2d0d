"""A time of day that is as much ahead of the machine's as a file says; Python imports this when it starts.

Only the time of day moves: what counts seconds goes on, as it does where somebody sets a machine's clock.
"""

import os
import threading
import time
from pathlib import Path

import time_machine

LOOK_SECONDS = 0.02


class MovedClock:
    """This process's time of day, and the thread that moves it whenever the file says something else."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset
        self._ahead = float(offset.read_text())
        self._clock = time_machine.travel(time.time() + self._ahead, tick=True).start()

    def keep(self) -> None:
        threading.Thread(target=self._follow, name="moved-clock", daemon=True).start()

    def _follow(self) -> None:
        while True:
            wanted = float(self._offset.read_text())
            if wanted != self._ahead:
                self._clock.shift(wanted - self._ahead)
                self._ahead = wanted
            time.sleep(LOOK_SECONDS)


_clock = MovedClock(Path(os.environ["BENCH_CLOCK_OFFSET"]))
_clock.keep()
os.register_at_fork(after_in_child=_clock.keep)  # a fork has its parent's time, but none of its threads
