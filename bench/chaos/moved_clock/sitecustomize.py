"""A time of day that is as much ahead of the machine's as a file says; Python imports this when it starts.

Only the time of day moves: what counts seconds goes on, as it does where somebody sets a machine's clock.
"""

import os
import threading
import time
from pathlib import Path

import time_machine

LOOK_SECONDS = 0.02


def follow(offset: Path, clock: time_machine.Traveller, ahead: float) -> None:
    """Move this process's time of day whenever the file says something else."""
    while True:
        wanted = float(offset.read_text())
        if wanted != ahead:
            clock.shift(wanted - ahead)
            ahead = wanted
        time.sleep(LOOK_SECONDS)


_offset = Path(os.environ["BENCH_CLOCK_OFFSET"])
_ahead = float(_offset.read_text())
_clock = time_machine.travel(time.time() + _ahead, tick=True).start()
threading.Thread(target=follow, args=[_offset, _clock, _ahead], name="moved-clock", daemon=True).start()
