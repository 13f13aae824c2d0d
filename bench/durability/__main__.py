"""Measure tasks by turns on SQLite as it is (synchronous=FULL), and on one that seldom waits for the disk (NORMAL)."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import figures, report
from bench.__main__ import OLLAMA, SLOTS, warm_up
from bench.figures import Throughput
from bench.group import EMBEDDED, Group, running_group
from tests.ollama_server import OllamaTestProcess

NORMAL = Path(__file__).with_name("normal")
ROUNDS = 5
TASKS = 400
# How SQLite numbers its ways: https://sqlite.org/pragma.html#pragma_synchronous
WAYS = {"FULL": "2", "NORMAL": "1"}
ASK = "from django.db import connection as c; print(c.cursor().execute('PRAGMA synchronous').fetchone()[0])"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.durability", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to try it out; writes no page")
    is_quick = parser.parse_args().quick
    rounds, count = (1, 50) if is_quick else (ROUNDS, TASKS)
    surroundings = report.surroundings(f"python -m bench.durability{' --quick' if is_quick else ''}")
    found = asyncio.run(measure(rounds, count))
    text = "\n\n".join([surroundings, durability_table(found, rounds, count)])
    print(f"\n{text}")
    if not is_quick:
        report.write_section("durability", text)
    return 0


async def measure(rounds: int, count: int) -> dict[str, list[Throughput]]:
    """Run a group of each way side by side, and put them under load by turns. Raises RuntimeError if one is not."""
    found: dict[str, list[Throughput]] = {way: [] for way in WAYS}
    with OllamaTestProcess(*OLLAMA) as ollama, ExitStack() as running:
        groups = {
            way: running.enter_context(running_group(EMBEDDED, ollama, slots=SLOTS, settings=settings))
            for way, settings in (("FULL", {}), ("NORMAL", {"PYTHONPATH": str(NORMAL)}))
        }
        for way, group in groups.items():
            _check(way, group)
            await warm_up(group)
        for number in range(rounds):
            for way, group in groups.items():
                found[way].append(await figures.throughput(group, count))
                report.say(f"round {number + 1}, {way}: {found[way][-1].per_second:.0f} tasks/s")
    return found


def _check(way: str, group: Group) -> None:
    told = group.manage("shell", "--no-imports", "--command", ASK)
    if told != WAYS[way]:
        raise RuntimeError(f"synchronous is {told} instead of {way}")


def durability_table(found: dict[str, list[Throughput]], rounds: int, count: int) -> str:
    rows: list[tuple[str, Callable[[Throughput], float], int, str]] = [
        ("tasks through the whole path, per second", lambda item: item.per_second, 0, ""),
        ("a task, submit to answer: median", lambda item: item.latency_median, 0, " ms"),
        ("the same: P95", lambda item: item.latency_p95, 0, " ms"),
        ("CPU for a task: web", lambda item: item.cpu["web"], 2, " ms"),
        ("CPU for a task: worker", lambda item: item.cpu["worker"], 2, " ms"),
    ]
    settings = f"SQLite, embedded broker; {rounds} rounds by turns of {count} tasks, {figures.USERS} users."
    table = report.table(
        ("figure", *(f"synchronous={way}" for way in found)),
        (
            (name, *(report.spread([value(item) for item in items], digits, unit) for items in found.values()))
            for name, value, digits, unit in rows
        ),
    )
    return f"{table}\n\n{settings}"


if __name__ == "__main__":
    sys.exit(main())
