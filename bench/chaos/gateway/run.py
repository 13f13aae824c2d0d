"""Runs the gateway's faults against a group with two nodes, one after the other, and judges each."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.chaos.gateway.calls import Callers
from bench.chaos.gateway.scene import NODES, CallScene
from bench.chaos.gateway.verdict import CallVerdict, judge, look_again
from bench.chaos.run import OLLAMA, SLOTS, backends_of, known_tasks, settings_of
from bench.chaos.scene import Fault, Scale
from bench.group import Group, running_group
from tests.ollama_server import OllamaTestProcess
from tests.services import Services

# Nobody comes near it; where there is a budget, tokens are counted.
TOKENS_PER_DAY = str(10**12)


@dataclass(frozen=True)
class Stage:
    """What all faults of a backend share."""

    group: Group
    servers: tuple[OllamaTestProcess, OllamaTestProcess]
    services: Services | None
    lane: str
    scale: Scale
    seed: int


async def run_gateway(
    backend: str, lane: str, faults: Sequence[Fault[CallScene]], scale: Scale, *, seed: int
) -> tuple[str, list[CallVerdict]]:
    """Put one group to these faults; returns the name of its backends too."""
    settings = {
        **settings_of(scale),
        "SUTAZAI_GATEWAY_LANE": lane,
        "SUTAZAI_TOKENS_PER_DAY": TOKENS_PER_DAY,
    }
    with (
        backends_of(backend) as (backends, services),
        OllamaTestProcess(*OLLAMA) as one,
        OllamaTestProcess(*OLLAMA) as two,
        running_group(backends, one, slots=SLOTS, settings=settings) as group,
    ):
        group.manage("register_node", "--name", NODES[1], "--url", two.url)
        stage = Stage(group, (one, two), services, lane, scale, seed)
        return backends.name, [await run_fault(fault, stage) for fault in faults]


async def run_fault(fault: Fault[CallScene], stage: Stage) -> CallVerdict:
    """Call, break, heal, wait, judge."""
    earlier = await known_tasks(stage.group)
    for server in stage.servers:
        server.control(reset=True)
    callers = Callers(stage.group.url, stage.group.key)
    scene = CallScene(
        group=stage.group,
        services=stage.services,
        rng=random.Random(f"{stage.seed} {fault.name}"),
        scale=stage.scale,
        servers=stage.servers,
        callers=callers,
        lane=stage.lane,
    )
    started = time.monotonic()
    await fault.inject(scene)
    await scene.drained()
    await scene.until_ended()
    await look_again(scene)
    verdict = await judge(fault.title, scene, earlier)
    verdict.notes.append(f"{time.monotonic() - started:.0f} s")
    callers.close()
    return verdict
