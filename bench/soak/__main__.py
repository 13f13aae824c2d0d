"""Soak, and write the section of docs/benchmarks.md; see the package. Exits with 1 when a requirement is broken."""

import argparse
import asyncio
import random
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import report, tasks
from bench.chaos import verdict as chaos
from bench.chaos.ledger import Ledger
from bench.chaos.run import FULL, OLLAMA, SLOTS, backends_of, create_agent, known_tasks
from bench.chaos.scene import Scene
from bench.client import Client
from bench.group import Group, running_group
from bench.report import say
from bench.soak import probe
from bench.soak.faults import WEB_PROCESSES, strike_all
from bench.soak.load import Mixed
from bench.soak.memory import Memory
from bench.soak.tables import notes, results, settings_text
from bench.soak.verdict import SoakVerdict, judge
from tests.ollama_server import OllamaTestProcess
from tests.program import ROOT, ProgramError

HOUR_MINUTES = 60.0
WARM_UP_SECONDS = 10


def main() -> int:
    arguments = _parse()
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    surroundings = report.surroundings(f"python -m bench.soak {' '.join(sys.argv[1:])}".strip())
    say(f"seed {seed}; {arguments.minutes:g} minutes")
    verdict, memory = asyncio.run(soak(60 * arguments.minutes, seed))
    text = "\n\n".join(
        [surroundings, settings_text(arguments.minutes, seed), results(verdict, memory), notes(verdict)]
    )
    print(f"\n{text}")
    if arguments.minutes >= HOUR_MINUTES:
        report.write_section("soak", text)
    print("\nA requirement is broken." if verdict.broken() else "\nEvery requirement holds.")
    return int(bool(verdict.broken()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Mixed load, and faults, for an hour.")
    parser.add_argument("--minutes", type=float, default=HOUR_MINUTES, help="less than 60 write no page")
    parser.add_argument("--seed", type=int, help="for everything that is drawn by lot; printed when not given")
    return parser.parse_args()


async def soak(seconds: float, seed: int) -> tuple[SoakVerdict, Memory]:
    """Run the whole of it on PostgreSQL, Redis and RabbitMQ, with several web processes."""
    settings = {"SUTAZAI_WEB_PROCESSES": str(WEB_PROCESSES)}
    with (
        backends_of("rabbitmq") as (backends, services),
        OllamaTestProcess(*OLLAMA) as ollama,
        running_group(backends, ollama, slots=SLOTS, settings=settings) as group,
        tempfile.TemporaryDirectory(prefix="sutazai-soak-") as folder,
        Ledger(Path(folder) / "ledger.jsonl") as ledger,
    ):
        await create_agent(group)
        rng = random.Random(seed)
        scene = Scene(group=group, services=services, rng=rng, scale=FULL)
        await scene.until(lambda: len(group.pids("web")) == WEB_PROCESSES, "every web process runs")
        earlier = await known_tasks(group)
        clients, memory = Mixed(group, ledger, rng), Memory(group)
        await asyncio.sleep(WARM_UP_SECONDS)
        watching = asyncio.create_task(memory.watch())
        with probing(group, Path(folder) / "probes.jsonl") as probes:
            _, windows = await asyncio.gather(clients.run(seconds), strike_all(scene, seconds))
        await clients.drain(FULL.drain_seconds)
        watching.cancel()
        memory.look()
        say("reading every task, its events and its answer")
        others = await _of_other_agents(group)
        judged = await chaos.judge(
            "soak", group, ollama, clients.load.followed, worker_kills=scene.worker_kills, earlier=earlier | others
        )
        clients.close()
        due = int(seconds / probe.EVERY_SECONDS)
        return judge(judged, probes=probes, due=due, calls=clients.calls, reads=clients.reads, windows=windows), memory


@contextmanager
def probing(group: Group, path: Path) -> Iterator[list[probe.Probe]]:
    """Probe from another process; the list is filled at the end of the block. Raises ProgramError if it failed."""
    found: list[probe.Probe] = []
    with path.open("w") as output:
        prober = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.probe", group.url, group.key],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
        )
        try:
            yield found
        finally:
            prober.communicate(timeout=60)
    if prober.returncode:
        raise ProgramError(f"the probes ended with {prober.returncode}")
    with path.open() as lines:
        found += probe.read(lines)


async def _of_other_agents(group: Group) -> set[str]:
    """The tasks of the gateway's calls, which are judged by their answers."""
    client = Client(group.url, key=group.key)
    rows = await chaos.all_tasks(client)
    client.close()
    return {task for task, row in rows.items() if row["agent"] != tasks.AGENT}


if __name__ == "__main__":
    sys.exit(main())
