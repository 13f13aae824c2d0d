"""Models that do not fit into a node's memory together: how often they are loaded for calls in an unlucky order."""

import asyncio
from dataclasses import dataclass

from bench import tasks
from bench.client import Client
from bench.gateway.targets import PATH, Ours
from tests.ollama_server import OllamaTestProcess

ORDER = "ABAACABC"
LOAD_SECONDS = 0.5
ANSWER = "t4-d25"
# The first call finds the node idle; the others wait, and have come, when it has been answered.
APART_SECONDS = 0.02


@dataclass(frozen=True)
class Swaps:
    """loads: how often the node loaded a model. longest_wait: seconds that a call waited for its turn, at most."""

    loads: int
    longest_wait: float


async def swap(target: Ours) -> Swaps | None:
    """Ask a node that holds one model for three; None where nodes cannot be told how many models they hold."""
    names = sorted(set(ORDER))
    arguments = [part for name in names for part in ("--model", name.lower())]
    with OllamaTestProcess("--max-loaded", "1", "--load-seconds", str(LOAD_SECONDS), *arguments) as server:
        client = target.client()
        if not await _is_known(client, server.url):
            client.close()
            return None
        waits = await asyncio.gather(*(_ask(client, target, number) for number in range(len(ORDER))))
        client.close()
        return Swaps(loads=server.stats()["loads"], longest_wait=max(waits))


async def _is_known(client: Client, url: str) -> bool:
    """Make the node known, as one that holds one model and answers one call at a time; False if it cannot be."""
    node = {"name": "one-model", "url": url, "slots": 1, "max_loaded_models": 1}
    made = await client.request("POST", "/api/v1/nodes/", node, headers=tasks.new_key())
    tasks.expect(made, 201, 422)
    return made.status == 201


async def _ask(client: Client, target: Ours, number: int) -> float:
    """Ask the model whose turn it is in the order; returns how long the call waited."""
    await asyncio.sleep(number * APART_SECONDS)
    body = target.body(f"[[{ANSWER}]] call {number}") | {"model": ORDER[number].lower()}
    answer = await client.request("POST", PATH, body)
    tasks.expect(answer, 200)
    return float(answer.headers["x-sutazai-queue-wait"])
