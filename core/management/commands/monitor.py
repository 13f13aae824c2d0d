"""manage.py monitor"""

import json
import shutil
import signal
import sys
import textwrap
import threading
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from core import formats
from core.logs import one_line
from core.ops import monitor
from core.ops.endpoints import endpoints
from core.ops.monitor import Monitor, Watched
from core.ops.probes import State

WIDTH = 80
CLEAR = "\x1b[H\x1b[2J"
TREND_ROUNDS = 10
INDENT = 23 * " "
FAILED = "x"
# From quick to slow; the second is for terminals that know letters only.
LEVELS = ("▁▂▃▄▅▆▇█", ".:-=+*%#")
LEVEL_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WORDS = {State.UP: "up", State.DEGRADED: "slow", State.DOWN: "DOWN", State.UNKNOWN: "-"}


class Command(BaseCommand):
    help = (
        "Ask every address of the server each 10 seconds, and show whether and how quickly it answers. "
        "Ends with 1 when something was unhealthy in the last round."
    )
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="one round, then end")
        parser.add_argument("--json", action="store_true", help="one JSON object for each round, on one line")
        parser.add_argument("--url", default="", help="the server to ask, such as https://gpu.example; default: ours")

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        asked = Monitor(endpoints(), url=options["url"], key=settings.MONITOR_KEY)
        try:
            while True:
                started = time.monotonic()
                asked.look()
                self._show(asked, options)
                if options["once"]:
                    break
                threading.Event().wait(max(0.0, started + monitor.INTERVAL_SECONDS - time.monotonic()))
        except KeyboardInterrupt:
            pass
        if not asked.is_healthy:
            sys.exit(1)

    def _show(self, asked: Monitor, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(asked.as_dict()))
        else:
            redraws = self.stdout.isatty() and not options["once"]
            self.stdout.write((CLEAR if redraws else "") + "\n".join([*lines(asked, self._levels()), ""]))
        self.stdout.flush()

    def _levels(self) -> str:
        try:
            LEVELS[0].encode(getattr(self.stdout, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            return LEVELS[1]
        return LEVELS[0]


def lines(asked: Monitor, levels: str) -> list[str]:
    """Draw a round: a line for each address, then what is wrong, then what the server says of its parts."""
    verdict = "healthy" if asked.is_healthy else "UNHEALTHY"
    if asked.not_asked:
        verdict += f" ({len(asked.watched) - asked.not_asked} of {len(asked.watched)} asked)"
    found = [f"{asked.at:%Y-%m-%d %H:%M:%S} UTC  {asked.url}  {verdict}", ""]
    found.append(f"{'':31} {'state':<5} {'time':>7} {'median':>7} {'worst':>7} {'ok':>5}  trend")
    found += [_line(watched, levels) for watched in asked.watched if watched.answer.state != State.UNKNOWN]
    if asked.not_asked:
        how = "name one in SUTAZAI_MONITOR_KEY or SUTAZAI_MONITOR_KEY_FILE."
        found += ["", f"{asked.not_asked} more take an API key; {how}"]
    if wrong := [watched for watched in asked.watched if watched.answer.state in {State.DOWN, State.DEGRADED}]:
        found += ["", *(f"{watched.endpoint.path}: {watched.answer.detail}" for watched in wrong)]
    if asked.parts:
        found += ["", "What it depends on:"]
        found += [f"{part.name:<12} {part.state:<9} {part.detail}" for part in asked.parts]
    return [line for text in found for line in _within_the_terminal(text)]


def _line(watched: Watched, levels: str) -> str:
    percent = watched.answered_percent
    return (
        f"{watched.endpoint.path:<31} {WORDS[watched.answer.state]:<5}"
        f" {formats.duration(watched.answer.seconds):>7} {formats.duration(watched.median_seconds):>7}"
        f" {formats.duration(watched.worst_seconds):>7} {'' if percent is None else f'{percent:.0f} %':>5}"
        f"  {trend(watched, levels)}"
    )


def trend(watched: Watched, levels: str) -> str:
    """Draw the last rounds, the newest last: a letter for each, the higher the slower, and x where it failed."""
    last = list(watched.history)[-TREND_ROUNDS:]
    return "".join(
        FAILED if seconds is None else levels[sum(seconds > level for level in LEVEL_SECONDS)] for seconds in last
    )


def _within_the_terminal(text: str) -> list[str]:
    """Break a line where the terminal ends, and make it harmless: what a server says stands in it."""
    width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH
    text = one_line(text).rstrip()
    return [text] if len(text) <= width else textwrap.wrap(text, width, subsequent_indent=INDENT)
