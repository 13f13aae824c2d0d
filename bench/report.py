"""Tables for the terminal and for docs/benchmarks.md, with what one must know to judge them."""

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.program import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well in a terminal too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(written)


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """The median of the rounds, and, of more than one, between which values they lay."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle}{unit}" + (f" ({low}–{high})" if len(values) > 1 else "")


def surroundings(command: str) -> str:
    """Where and when: what figures mean nothing without."""
    load = os.getloadavg()
    return table(
        ("measured", ""),
        [
            ("command", f"`{command}`"),
            ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
            ("commit", _commit()),
            ("machine", f"{psutil.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB, {platform.system()}"),
            ("Python", platform.python_version()),
            ("load before", f"{load[0]:.2f} (1 minute), {load[1]:.2f} (5 minutes)"),
        ],
    )


def write_section(name: str, text: str) -> None:
    """Replace a section of docs/benchmarks.md with what was just measured, and say so."""
    begin, end = f"<!-- {name}: written by the command -->", f"<!-- {name}: end -->"
    page = PAGE.read_text("utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    changed, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", page)
    if count != 1:
        raise ValueError(f"{PAGE} has no section {name!r}.")
    PAGE.write_text(changed, "utf-8")
    print(f"\n{PAGE.name} holds these figures now.")


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        is_changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if is_changed else "")
    except (OSError, subprocess.CalledProcessError):  # an archive without its history
        return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return float(psutil.virtual_memory().total / 2**30)
