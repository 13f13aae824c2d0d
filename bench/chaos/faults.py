"""The faults. Each submits its tasks, breaks something while they arrive and run, and heals it before it returns."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from bench import tasks
from bench.chaos.load import Load
from bench.chaos.scene import REMEMBERED_SECONDS, Fault, Scene
from bench.client import Client
from tests.ollama_server import OllamaTestProcess

FLUSHES = 10

_numbers = itertools.count()


@dataclass(kw_only=True)
class TaskScene(Scene):
    """What a fault works on whose tasks come by the API."""

    ollama: OllamaTestProcess
    load: Load

    def prompts(self, count: int) -> list[str]:
        """Questions nobody asked before: most answered at once, some over seconds, a few over many."""
        long = f"t20-d{1000 * self.scale.long_answer_seconds / 20:.0f}"
        paces = self.rng.choices(["t16", "t20-d100", long], weights=[50, 45, 5], k=count)
        return [f"[[{pace}]] {self.unique()}" for pace in paces]

    def unique(self) -> str:
        return f"question <{next(_numbers)}>"


async def kill_in_turn(scene: TaskScene) -> None:
    """kill -9 web, worker and beat in turn, each in the middle of a burst of submissions.

    The web process is killed itself, and its master by turns.
    """
    rounds = range(scene.scale.kills)
    targets = [role for number in rounds for role in (("web", "web-master")[number % 2], "worker", "beat")]
    for number, role in enumerate(targets):
        burst = scene.prompts(_share(scene.scale.tasks, number, len(targets)))
        ends_at = time.monotonic() + scene.scale.kill_interval_seconds
        arriving = asyncio.create_task(scene.load.submit(burst))
        if role == "worker":
            await scene.until(lambda: is_answering(scene), "a task is being answered")
        else:
            await asyncio.sleep(scene.rng.uniform(0, len(burst) / 50))
        await scene.kill(role)
        await arriving
        await asyncio.sleep(max(0.0, ends_at - time.monotonic()))


def _share(total: int, number: int, parts: int) -> int:
    """The size of part `number` when a total is split as evenly as possible."""
    return total * (number + 1) // parts - total * number // parts


def is_answering(scene: TaskScene) -> bool:
    return any(
        item.following.events and item.following.events[-1].type == "delta" for item in scene.load.followed[-50:]
    )


async def empty_broker_folder(scene: TaskScene) -> None:
    """The embedded broker's messages are deleted again and again while submissions arrive."""
    messages = scene.group.data_dir / "broker" / "messages"

    async def delete() -> None:
        for path in messages.iterdir():
            path.unlink(missing_ok=True)

    await while_submitting(scene, delete)


async def while_submitting(scene: TaskScene, strike: Callable[[], Awaitable[None]]) -> None:
    """Strike again and again while submissions arrive, and once more when all have."""
    prompts = scene.prompts(scene.scale.tasks)
    arriving = asyncio.create_task(scene.load.submit(prompts))
    pause = len(prompts) / 50 / FLUSHES
    for _ in range(FLUSHES):
        await asyncio.sleep(pause)
        await strike()
    await arriving
    await strike()


async def kill_broker(scene: TaskScene) -> None:
    """kill -9 RabbitMQ while submissions arrive; it comes back, with its data, after a while."""
    assert scene.services is not None
    broker = scene.services.rabbitmq
    prompts = scene.prompts(scene.scale.tasks)
    arriving = asyncio.create_task(scene.load.submit(prompts))
    await asyncio.sleep(len(prompts) / 50 / 4)
    down_since = time.monotonic()
    await asyncio.to_thread(broker.kill)
    accepted = len(scene.load.followed)
    await arriving
    scene.notes.append(f"{sum(bool(item.entry.task) for item in scene.load.followed[accepted:])} accepted while down")
    await asyncio.sleep(max(0.0, down_since + scene.scale.broker_down_seconds - time.monotonic()))
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(broker.wait_until_ready)


async def stall_streams(scene: TaskScene) -> None:
    """Half of the answers fall silent once; the node's limit for such gaps ends them."""
    await _set_gap_timeout(scene)
    await _break_answers(scene, "stall3")


async def cut_streams(scene: TaskScene) -> None:
    """Half of the answers are cut once in the middle, some at every try."""
    await _break_answers(scene, "cut3")


async def end_streams_without_done(scene: TaskScene) -> None:
    """Half of the answers end politely once before they are whole, some at every try."""
    await _break_answers(scene, "eof3")


async def _break_answers(scene: TaskScene, knob: str) -> None:
    """Break every second task's first answer, and every answer of one in twenty."""
    prompts, once = [], []
    for number in range(scene.scale.tasks):
        unique = scene.unique()
        prompts.append(f"[[t16{f'-{knob}' if number % 20 == 0 else ''}]] {unique}")
        if number % 2:
            once.append({"knobs": knob, "path": "/api/chat", "prompt": unique, "times": 1})
    await asyncio.to_thread(scene.ollama.control, faults=once)
    await scene.load.submit(prompts)


async def _set_gap_timeout(scene: TaskScene) -> None:
    client = Client(scene.group.url, key=scene.group.key)
    nodes = tasks.expect(await client.get("/api/v1/nodes/"), 200)["results"]
    (node,) = [node for node in nodes if node["url"] == scene.ollama.url]
    change = {"gap_timeout_seconds": scene.scale.gap_seconds}
    tasks.expect(await client.request("PATCH", f"/api/v1/nodes/{node['id']}/", change), 200)
    client.close()
    await asyncio.sleep(REMEMBERED_SECONDS)


async def stop_worker(scene: TaskScene) -> None:
    """Stop the worker (SIGSTOP) past its lease while another one works, then let it go on."""
    stopped = psutil.Process(scene.group.pid("worker"))
    prompts = scene.prompts(scene.scale.tasks)
    with scene.group.another_worker():
        arriving = asyncio.create_task(scene.load.submit(prompts))
        await scene.until(lambda: is_answering(scene), "a task is being answered")
        stopped.suspend()
        try:
            await asyncio.sleep(scene.scale.stop_seconds)
        finally:
            stopped.resume()
        await arriving


FAULTS = (
    Fault("kill", "kill -9 of web, worker and beat in turn", kill_in_turn),
    Fault("messages", "the broker's messages deleted", empty_broker_folder, ("embedded",)),
    Fault("broker", "broker killed", kill_broker, ("rabbitmq",)),
    Fault("stall", "test server falls silent in mid-stream", stall_streams),
    Fault("cut", "test server cuts in mid-stream", cut_streams),
    Fault("eof", "test server ends without done", end_streams_without_done),
    Fault("stop", "worker stopped past its lease, and continued", stop_worker),
)
