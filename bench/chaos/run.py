"""Runs faults against groups, one after the other, and judges each."""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import tasks
from bench.chaos import machine
from bench.chaos.faults import TaskScene
from bench.chaos.ledger import Ledger
from bench.chaos.load import Load
from bench.chaos.machine import Unavailable
from bench.chaos.scene import Fault, Scale, SceneT
from bench.chaos.verdict import Verdict, all_tasks, judge
from bench.client import Client
from bench.group import EMBEDDED, Backends, Group, running_group
from tests.ollama_server import OllamaTestProcess
from tests.services import Services, running_services

SLOTS = 64
OLLAMA = ("--parallel", "600", "--max-queue", "10000")

FULL = Scale(
    tasks=500,
    calls=300,
    streams=100,
    kills=10,
    kill_interval_seconds=4,
    broker_down_seconds=30,
    node_down_seconds=8,
    lock_seconds=10,
    turn_seconds=3,
    turns=20,
    lease_seconds=30,
    reaper_seconds=5,
    gap_seconds=5,
    long_answer_seconds=30,
    drain_seconds=90,
    rerun_limit_seconds=5,
    late_seconds=2,
)
# A few dozen tasks and shorter leases, for `make test`; a busy machine must be able to renew them in time. How fast it
# starts a process is not its concern.
SHORT = Scale(
    tasks=30,
    calls=30,
    streams=12,
    kills=1,
    kill_interval_seconds=1,
    broker_down_seconds=3,
    node_down_seconds=2,
    lock_seconds=7,
    turn_seconds=4,
    turns=4,
    lease_seconds=10,
    reaper_seconds=2,
    gap_seconds=1,
    long_answer_seconds=3,
    drain_seconds=90,
    rerun_limit_seconds=90,
    late_seconds=60,
)


def settings_of(scale: Scale) -> dict[str, str]:
    """The group's own limits, as environment."""
    return {
        "SUTAZAI_LEASE_SECONDS": str(scale.lease_seconds),
        "SUTAZAI_HEARTBEAT_SECONDS": str(scale.lease_seconds / 3),
        "SUTAZAI_REAPER_SECONDS": str(scale.reaper_seconds),
    }


@contextmanager
def backends_of(name: str) -> Iterator[tuple[Backends, Services | None]]:
    """Start what a group needs: PostgreSQL, Redis and a broker, or nothing where it is embedded.

    "small-disk" and "own-clock" are embedded, on a disk that can be filled and by a clock that can be set. The broker
    is that of the other names. Raises Unavailable.
    """
    if name == "embedded":
        yield EMBEDDED, None
        return
    if name == "small-disk":
        with machine.small_disk() as folder:
            yield Backends(f"SQLite, a disk of {machine.DISK_MIB} MiB", {}, folder=folder), None
        return
    if name == "own-clock":
        with tempfile.TemporaryDirectory(prefix="sutazai-clock-") as own:
            yield Backends("SQLite, a clock that is set", machine.Clock(Path(own)).environment), None
        return
    with running_services() as services:
        environment = {"DATABASE_URL": services.postgresql.url, "REDIS_URL": services.redis.url}
        if name == "rabbitmq":
            environment["CELERY_BROKER_URL"] = services.rabbitmq.url
        title = "PostgreSQL + Redis" + (" + RabbitMQ" if name == "rabbitmq" else "")
        yield Backends(title, environment), services


def faults_for(backend: str, wanted: Sequence[str], faults: Sequence[Fault[SceneT]]) -> list[Fault[SceneT]]:
    """The faults that a backend is put to, of those wanted (none named: all)."""
    return [fault for fault in faults if backend in fault.backends and (not wanted or fault.name in wanted)]


@dataclass(frozen=True)
class Stage:
    """What all faults of a backend share."""

    group: Group
    ollama: OllamaTestProcess
    services: Services | None
    ledger: Ledger
    scale: Scale
    seed: int


async def run_backend(
    backend: str, faults: Sequence[Fault[TaskScene]], scale: Scale, *, seed: int, folder: Path
) -> tuple[str, list[Verdict]]:
    """Put one group to these faults; returns the name of its backends too. folder: for the ledger."""
    try:
        return await _run_backend(backend, faults, scale, seed=seed, folder=folder)
    except Unavailable as reason:
        return backend, [Verdict(fault.title, skipped=str(reason)) for fault in faults]


async def _run_backend(
    backend: str, faults: Sequence[Fault[TaskScene]], scale: Scale, *, seed: int, folder: Path
) -> tuple[str, list[Verdict]]:
    with (
        backends_of(backend) as (backends, services),
        OllamaTestProcess(*OLLAMA) as ollama,
        running_group(backends, ollama, slots=SLOTS, settings=settings_of(scale)) as group,
        Ledger(folder / f"ledger-{backend}.jsonl") as ledger,
    ):
        await create_agent(group)
        stage = Stage(group, ollama, services, ledger, scale, seed)
        return backends.name, [await run_fault(fault, stage) for fault in faults]


async def create_agent(group: Group) -> None:
    """Make the agent that tasks are for."""
    client = Client(group.url, key=group.key)
    await tasks.create_agent(client)
    client.close()


async def run_fault(fault: Fault[TaskScene], stage: Stage) -> Verdict:
    """Submit, break, heal, wait, judge."""
    rng = random.Random(f"{stage.seed} {fault.name}")
    earlier = await known_tasks(stage.group)
    stage.ollama.control(reset=True)
    load = Load(stage.group, stage.ledger, rng)
    scene = TaskScene(
        group=stage.group, services=stage.services, rng=rng, scale=stage.scale, ollama=stage.ollama, load=load
    )
    started = time.monotonic()
    try:
        await fault.inject(scene)
    except Unavailable as reason:
        load.close()
        return Verdict(fault.title, skipped=str(reason))
    healed = time.monotonic()
    await load.drain(stage.scale.drain_seconds)
    drained = time.monotonic()
    load.close()
    verdict = await judge(
        fault.title, stage.group, stage.ollama, load.followed, worker_kills=scene.worker_kills, earlier=earlier
    )
    verdict.wrong, verdict.examples = scene.wrong, [*verdict.examples, *scene.examples[:10]]
    if load.refusals:
        refused = ", ".join(f"{count} × {status}" for status, count in sorted(load.refusals.items()))
        verdict.notes.append(f"refused for now: {refused}, after {load.longest_refusal:.1f} s at most")
    if load.untold:
        verdict.wrong["untold"] = load.untold
    verdict.notes += [*scene.notes, f"{healed - started:.0f} s of fault, all ended {drained - healed:.1f} s after it"]
    return verdict


async def known_tasks(group: Group) -> set[str]:
    client = Client(group.url, key=group.key)
    known = set(await all_tasks(client))
    client.close()
    return known
